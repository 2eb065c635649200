// The kernels that are computed: PyTorch's copies of contiguous tensors from one type to another.
//
// They are found by their names and read their arguments as PyTorch 2.13 lays them out:
//
//   vectorized_elementwise_kernel<n, (b)float16_copy_kernel_cuda…>(int count, functor, char *data[2])
//   unrolled_elementwise_kernel<direct_copy_kernel_cuda…, LoadWithCast<1>, StoreWithCast<1>>(
//       int count, functor, char *data[2], offsets, offsets, loader, storer)
//
// with data[0] the target and data[1] the source. Loader and storer begin with the type they load or store.
#include "fake.h"

#include <cstring>

namespace fake {

// c10::ScalarType
enum Type : int8_t { U8 = 0, I8 = 1, I16 = 2, I32 = 3, I64 = 4, F16 = 5, F32 = 6, F64 = 7, BOOL = 11, BF16 = 15 };

struct Bfloat16 {
  uint16_t bits;
  operator float() const {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
  }
  Bfloat16() = default;
  Bfloat16(float value) {
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    bits = value != value ? 0x7fc0 : (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;  // to nearest even
  }
};

static size_t size_of(Type type) {
  switch (type) {
  case U8: case I8: case BOOL: return 1;
  case I16: case F16: case BF16: return 2;
  case I32: case F32: return 4;
  case I64: case F64: return 8;
  }
  return 0;
}

// Wide enough for every value that a weight or an index has.
static double load(Type type, const char *at) {
  switch (type) {
  case U8: case BOOL: return *(const uint8_t *)at;
  case I8: return *(const int8_t *)at;
  case I16: return *(const int16_t *)at;
  case I32: return *(const int32_t *)at;
  case I64: return (double)*(const int64_t *)at;
  case F16: return (double)*(const _Float16 *)at;
  case F32: return *(const float *)at;
  case F64: return *(const double *)at;
  case BF16: return (float)*(const Bfloat16 *)at;
  }
  return 0;
}

static void store(Type type, char *at, double value) {
  switch (type) {
  case U8: *(uint8_t *)at = (uint8_t)(int64_t)value; break;
  case BOOL: *(uint8_t *)at = value != 0; break;
  case I8: *(int8_t *)at = (int8_t)value; break;
  case I16: *(int16_t *)at = (int16_t)value; break;
  case I32: *(int32_t *)at = (int32_t)value; break;
  case I64: *(int64_t *)at = (int64_t)value; break;
  case F16: *(_Float16 *)at = (_Float16)value; break;
  case F32: *(float *)at = (float)value; break;
  case F64: *(double *)at = value; break;
  case BF16: *(Bfloat16 *)at = Bfloat16((float)value); break;
  }
}

static void convert(Type to_type, char *to, Type from_type, const char *from, size_t count) {
  if (to_type == BF16 && from_type == F32) {  // most weights
    for (size_t i = 0; i < count; i++) ((Bfloat16 *)to)[i] = Bfloat16(((const float *)from)[i]);
    return;
  }
  size_t to_step = size_of(to_type), from_step = size_of(from_type);
  for (size_t i = 0; i < count; i++) store(to_type, to + i * to_step, load(from_type, from + i * from_step));
}

static bool has(const std::string &name, const char *part) { return name.find(part) != std::string::npos; }

Conversion conversion_of(const std::string &name) {
  if (has(name, "vectorized_elementwise_kernel")) {
    if (has(name, "bfloat16_copy_kernel_cuda")) return Conversion::TO_BF16;
    if (has(name, "float16_copy_kernel_cuda")) return Conversion::TO_F16;
  }
  bool casts = has(name, "LoadWithCastILi1E") && has(name, "StoreWithCastILi1E");
  if (has(name, "unrolled_elementwise_kernel") && has(name, "direct_copy_kernel_cuda") && casts)
    return Conversion::BY_ARGUMENTS;
  return Conversion::NONE;
}

void enqueue_conversion(Conversion kind, void **arguments, Stream *stream) {
  size_t count = *(int *)arguments[0];
  char *to = ((char **)arguments[2])[0], *from = ((char **)arguments[2])[1];
  Type to_type = kind == Conversion::TO_BF16 ? BF16 : F16, from_type = F32;
  if (kind == Conversion::BY_ARGUMENTS) {
    from_type = *(Type *)arguments[5];
    to_type = *(Type *)arguments[6];
  }
  size_t to_nbytes = count * size_of(to_type), from_nbytes = count * size_of(from_type);
  if (!to_nbytes || !from_nbytes) return;  // a type that is none of the above
  counter("conversions")++;
  enqueue(stream, [=] {
    bool there = on_device(to, to_nbytes) && on_device(from, from_nbytes);
    there ? convert(to_type, to, from_type, from, count) : lose(stream->device, cudaErrorIllegalAddress);
  });
}

}  // namespace fake
