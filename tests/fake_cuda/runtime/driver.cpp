// libcuda.so.1: what PyTorch asks the driver itself. build.sh adds the rest as functions that fail.
#include <dlfcn.h>

extern "C" {

int cuInit(unsigned) { return 0; }

int cuDriverGetVersion(int *version) {
  *version = 13000;
  return 0;
}

int cuDeviceGet(int *device, int ordinal) {
  *device = ordinal;
  return 0;
}

// PyTorch uses this to leave devices alone that the process does not use yet.
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
  auto has_context = (int (*)(int))dlsym(RTLD_DEFAULT, "fake_cuda_has_context");
  if (flags) *flags = 0;
  *active = has_context ? has_context(device) : 0;
  return 0;
}

int cuDevicePrimaryCtxRetain(void **context, int) {
  static int handle;
  *context = &handle;
  return 0;
}

int cuCtxGetCurrent(void **context) { return cuDevicePrimaryCtxRetain(context, 0); }

int cuCtxSetCurrent(void *) { return 0; }

int cuGetErrorString(int, const char **text) {
  *text = "error of the fake driver";
  return 0;
}

}  // extern "C"
