/* A stand-in for the NVIDIA driver in tests: two devices whose memory is the host's. Functions and CUDA_MEMCPY2D are
   written from NVIDIA's CUDA Driver API reference (sections "Memory Management" and "Data types used by CUDA driver"),
   not from roost's ctypes, so that a wrong layout there shows. It refuses what the driver refuses: work without a
   current context, a pitch below the width, a release that nobody retained. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef void *CUcontext;
typedef void *CUarray;
typedef enum CUmemorytype_enum {
    CU_MEMORYTYPE_HOST = 0x01,
    CU_MEMORYTYPE_DEVICE = 0x02,
    CU_MEMORYTYPE_ARRAY = 0x03,
    CU_MEMORYTYPE_UNIFIED = 0x04
} CUmemorytype;

typedef struct CUDA_MEMCPY2D_st {
    size_t srcXInBytes;
    size_t srcY;
    CUmemorytype srcMemoryType;
    const void *srcHost;
    CUdeviceptr srcDevice;
    CUarray srcArray;
    size_t srcPitch;
    size_t dstXInBytes;
    size_t dstY;
    CUmemorytype dstMemoryType;
    void *dstHost;
    CUdeviceptr dstDevice;
    CUarray dstArray;
    size_t dstPitch;
    size_t WidthInBytes;
    size_t Height;
} CUDA_MEMCPY2D;

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, DEVICES = 2, DEEPEST = 8 };

static int retained[DEVICES], synchronised, depth, allocations, refused;
static CUcontext stack[DEEPEST];

CUresult cuInit(unsigned int flags) { return flags ? INVALID_VALUE : SUCCESS; }
CUresult cuDeviceGetCount(int *count) { *count = DEVICES; return SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    if (ordinal < 0 || ordinal >= DEVICES) return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}
CUresult cuDeviceGetName(char *name, int len, CUdevice dev) {
    strncpy(name, dev ? "Stub B" : "Stub A", (size_t)len);
    return SUCCESS;
}
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev) { *bytes = (size_t)(dev + 1) << 33; return SUCCESS; }
CUresult cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev) {
    retained[dev]++;
    *pctx = &retained[dev];
    return SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
    if (!retained[dev]) return INVALID_CONTEXT;
    retained[dev]--;
    return SUCCESS;
}
CUresult cuCtxPushCurrent_v2(CUcontext ctx) {
    if (!ctx || depth == DEEPEST) return INVALID_VALUE;
    stack[depth++] = ctx;
    return SUCCESS;
}
CUresult cuCtxPopCurrent_v2(CUcontext *pctx) {
    if (!depth) return INVALID_CONTEXT;
    *pctx = stack[--depth];
    return SUCCESS;
}
CUresult cuMemGetInfo_v2(size_t *unused, size_t *total) {
    if (!depth) return INVALID_CONTEXT;
    CUdevice dev = stack[depth - 1] == (CUcontext)&retained[1];
    cuDeviceTotalMem_v2(total, dev);
    *unused = *total / 4 * (size_t)(3 - dev);
    return SUCCESS;
}
CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize) {
    if (!depth) return INVALID_CONTEXT;
    if (!bytesize) return INVALID_VALUE;
    if (refused && allocations == refused) return OUT_OF_MEMORY;
    *dptr = (CUdeviceptr)malloc(bytesize);
    memset((void *)*dptr, 0xff, bytesize);
    allocations++;
    return SUCCESS;
}
CUresult cuMemFree_v2(CUdeviceptr dptr) {
    if (!depth) return INVALID_CONTEXT;
    free((void *)dptr);
    allocations--;
    return SUCCESS;
}
CUresult cuCtxSynchronize(void) {
    if (!depth) return INVALID_CONTEXT;
    synchronised++;
    return SUCCESS;
}
CUresult cuMemsetD8_v2(CUdeviceptr dstDevice, unsigned char uc, size_t n) {
    if (!depth) return INVALID_CONTEXT;
    memset((void *)dstDevice, uc, n);
    return SUCCESS;
}
CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *copy) {
    const char *src;
    char *dst;
    size_t row;
    if (!depth) return INVALID_CONTEXT;
    if (copy->srcMemoryType == CU_MEMORYTYPE_HOST) src = (const char *)copy->srcHost;
    else if (copy->srcMemoryType == CU_MEMORYTYPE_DEVICE) src = (const char *)copy->srcDevice;
    else return INVALID_VALUE;
    if (copy->dstMemoryType == CU_MEMORYTYPE_HOST) dst = (char *)copy->dstHost;
    else if (copy->dstMemoryType == CU_MEMORYTYPE_DEVICE) dst = (char *)copy->dstDevice;
    else return INVALID_VALUE;
    if (copy->srcPitch < copy->WidthInBytes + copy->srcXInBytes) return INVALID_VALUE;
    if (copy->dstPitch < copy->WidthInBytes + copy->dstXInBytes) return INVALID_VALUE;
    for (row = 0; row < copy->Height; row++)
        memcpy(dst + (copy->dstY + row) * copy->dstPitch + copy->dstXInBytes,
               src + (copy->srcY + row) * copy->srcPitch + copy->srcXInBytes, copy->WidthInBytes);
    return SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char **text) {
    *text = error == INVALID_DEVICE ? "invalid device ordinal" : error == OUT_OF_MEMORY ? "out of memory" : "invalid argument";
    return SUCCESS;
}

/* For tests alone. */
int stub_allocations(void) { return allocations; }
void stub_refuse_after(int count) { refused = count; }
int stub_retained(int dev) { return retained[dev]; }
int stub_synchronised(void) { return synchronised; }
int stub_depth(void) { return depth; }
