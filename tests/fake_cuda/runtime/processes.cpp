// The directory that all processes share. Each process has a folder PID-STARTTIME in it:
//
//   counters         records of a name (24 bytes) and a 64-bit number, mapped and always current
//   memory/D-SERIAL  one file per allocation on device D, whose content is the device memory
//
// Tests read these files from outside. A process is alive while /proc has that pid with that start time and it
// is no zombie; what a dead one held is free, and the next process that allocates removes its folder.
//
// D is the number of the device in the machine, whatever CUDA_VISIBLE_DEVICES makes of it in the process.
//
// faults/POINT (call, malloc, launch, copy, register) holds words "name=number": code (of cudaError_t),
// count (how many calls fail; 1), after (calls that succeed first; 0), pid, device and nbytes (only this
// process, only on this device of the machine, only for at least so many bytes).
#include "fake.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

namespace fake {

namespace files = std::filesystem;

std::recursive_mutex guard;

std::string setting(const char *name, const char *otherwise) {
  const char *text = getenv(name);
  return text && *text ? text : otherwise;
}

size_t setting(const char *name, size_t otherwise) {
  const char *text = getenv(name);
  return text && *text ? strtoull(text, nullptr, 10) : otherwise;
}

static const std::string &shared_directory() {
  static const std::string path = [] {
    std::string fallback = "/tmp/fake-cuda-" + std::to_string(getuid());
    std::string path = setting("FAKE_CUDA_DIR", fallback.c_str());
    files::create_directories(path + "/faults");
    return path;
  }();
  return path;
}

// ---- who is alive ----

// Fields 3 (state) and 22 (start time) of /proc/PID/stat; they follow the name, which may hold anything.
static bool state_of(const std::string &pid, char &state, std::string &start) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string text{std::istreambuf_iterator<char>(file), {}};
  size_t end = text.rfind(')');
  if (end == std::string::npos) return false;
  std::istringstream fields(text.substr(end + 1));
  fields >> state;
  for (int field = 4; field <= 22; field++) fields >> start;
  return true;
}

static bool is_alive(const std::string &folder) {
  size_t dash = folder.find('-');
  char state;
  std::string start;
  if (!state_of(folder.substr(0, dash), state, start)) return false;
  return start == folder.substr(dash + 1) && state != 'Z' && state != 'X';
}

static bool names_a_process(const std::string &folder) {
  return isdigit(folder[0]) && folder.find('-') != std::string::npos;
}

const std::string &process_directory() {
  static const std::string path = [] {
    std::string pid = std::to_string(getpid()), start;
    char state;
    state_of(pid, state, start);
    std::string path = shared_directory() + "/" + pid + "-" + start;
    files::create_directories(path + "/memory");
    return path;
  }();
  return path;
}

// ---- counters ----

struct Record {
  char name[24];
  uint64_t value;
};

constexpr size_t MAX_RECORDS = 128;

static Record *records() {
  static Record *mapped = [] {
    std::string path = process_directory() + "/counters";
    int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, MAX_RECORDS * sizeof(Record))) abort();
    void *at = mmap(nullptr, MAX_RECORDS * sizeof(Record), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (at == MAP_FAILED) abort();
    return (Record *)at;
  }();
  return mapped;
}

uint64_t &counter(const char *name) {
  Record *record = records();
  while (record->name[0] && strcmp(record->name, name)) record++;
  if (!record->name[0]) snprintf(record->name, sizeof record->name, "%s", name);
  return record->value;
}

uint64_t &counter(const char *name, int device) {
  return counter((std::string(name) + "." + std::to_string(in_machine(device))).c_str());
}

// ---- memory of other processes ----

MachineLock::MachineLock() {
  descriptor = open((shared_directory() + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0 || flock(descriptor, LOCK_EX)) abort();
}

MachineLock::~MachineLock() { close(descriptor); }

static size_t used_by(const std::string &directory, int device) {
  std::string wanted = "used." + std::to_string(in_machine(device));
  std::ifstream file(directory + "/counters", std::ios::binary);
  Record record;
  while (file.read((char *)&record, sizeof record) && record.name[0])
    if (wanted == record.name) return record.value;
  return 0;
}

size_t used_by_others(int device) {
  size_t sum = 0;
  std::error_code ignored;
  for (const auto &entry : files::directory_iterator(shared_directory())) {
    std::string name = entry.path().filename();
    if (!names_a_process(name) || entry.path() == process_directory()) continue;
    if (is_alive(name))
      sum += used_by(entry.path(), device);
    else
      files::remove_all(entry.path(), ignored);
  }
  return sum;
}

// ---- faults ----

static std::map<std::string, size_t> words_of(const std::string &path) {
  std::map<std::string, size_t> words;
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    size_t equals = word.find('=');
    if (equals != std::string::npos)
      words[word.substr(0, equals)] = strtoull(word.c_str() + equals + 1, nullptr, 10);
  }
  return words;
}

static void write_words(const std::string &path, const std::map<std::string, size_t> &words) {
  {
    std::ofstream file(path + ".new");
    for (const auto &[name, number] : words) file << name << '=' << number << ' ';
  }
  rename((path + ".new").c_str(), path.c_str());
}

cudaError_t injected(const char *point, size_t nbytes) {
  std::string path = shared_directory() + "/faults/" + point;
  if (access(path.c_str(), F_OK)) return cudaSuccess;
  MachineLock machine;
  auto words = words_of(path);
  bool process = !words.count("pid") || words["pid"] == (size_t)getpid();
  bool device = !words.count("device") || words["device"] == (size_t)in_machine(current_device());
  if (!words.count("code") || !process || !device || nbytes < words["nbytes"]) return cudaSuccess;
  if (words["after"]) {
    words["after"]--;
    write_words(path, words);
    return cudaSuccess;
  }
  size_t left = words.count("count") ? words["count"] - 1 : 0;
  if (left) {
    words["count"] = left;
    write_words(path, words);
  } else {
    unlink(path.c_str());
  }
  counter("faults")++;
  return (cudaError_t)words["code"];
}

}  // namespace fake
