// The splat in CUDA C++, compiled at run time through cupy (kernels.py), which defines one of T2C_LISTS, T2C_FLOAT32,
// T2C_BFLOAT16 and T2C_FLOAT16. Written from the formulas of reference.py.
//
// An image is rows [pixels, channels]: channels last, padded to a multiple of four, so that one thread moves four at once.
// Stored as float32, bfloat16 or float16, always added up in float32. No shared memory, no talk among threads but atomicAdd,
// and no header: a C++ compiler can run the kernels as they stand, which is how the tests prove them without a GPU.

struct alignas(8) Entry { int source; float weight; };                  // one of the pixels that land somewhere

struct Landing { int left, top; bool inside; float x[2], y[2]; };       // x, y: shares of the near [0] and the far [1] corners

// Where source pixel i of all flow fields [*,2,H,W] lands. A pixel that misses the image, or is thrown to NaN, is not inside.
__device__ inline Landing land(const float* flow, int i, int height, int width) {
    const int plane = height * width, image = i / plane, pixel = i - image * plane, y = pixel / width, x = pixel - y * width;
    const float* at = flow + (long long)image * 2 * plane + pixel;
    const float at_x = x + at[0], at_y = y + at[plane];
    Landing to;
    to.inside = at_x >= -1 && at_x < width && at_y >= -1 && at_y < height;    // -1: weight 0, but a slope
    const float left = to.inside ? floorf(at_x) : 0, top = to.inside ? floorf(at_y) : 0;
    to.left = (int)left, to.top = (int)top;
    to.x[1] = at_x - left, to.y[1] = at_y - top;
    to.x[0] = 1 - to.x[1], to.y[0] = 1 - to.y[1];
    return to;
}

// Pixel number inside its image of corner 0..3 (right: bit 0, low: bit 1), or -1 outside.
__device__ inline int pixel_of(const Landing& to, int corner, int height, int width) {
    const int x = to.left + (corner & 1), y = to.top + (corner >> 1);
    return to.inside && x >= 0 && x < width && y >= 0 && y < height ? y * width + x : -1;
}

// As pixel_of, and -1 where nothing arrives. Asks each factor, not the product: count and fill must agree to the bit.
__device__ inline int target_of(const Landing& to, int corner, int height, int width) {
    return to.x[corner & 1] == 0 || to.y[corner >> 1] == 0 ? -1 : pixel_of(to, corner, height, width);
}

#ifdef T2C_LISTS
// What lands on every pixel, as lists: count, [scan], fill, order. Flow field m throws its pixels into image m % images, so
// that a batch (as many images as fields) and a blend (one image) are the same thing. One thread per source pixel.
extern "C" __global__ void count_landings(const float* __restrict__ flow, const float* __restrict__ weight, int* count,
                                          int sources, int images, int height, int width) {
    const int i = blockIdx.x * blockDim.y + threadIdx.y;
    if (i >= sources || (weight && weight[i] == 0)) return;
    const Landing to = land(flow, i, height, width);
    const int first = i / (height * width) % images * height * width;
    for (int corner = 0; corner < 4; ++corner) {
        const int target = target_of(to, corner, height, width);
        if (target >= 0) atomicAdd(count + first + target, 1);
    }
}

// The count runs down to 0 and is the cursor of its list.
extern "C" __global__ void fill_lists(const float* __restrict__ flow, const float* __restrict__ weight,
                                      const int* __restrict__ start, int* count, Entry* __restrict__ entries,
                                      int sources, int images, int height, int width) {
    const int i = blockIdx.x * blockDim.y + threadIdx.y;
    if (i >= sources || (weight && weight[i] == 0)) return;
    const Landing to = land(flow, i, height, width);
    const int first = i / (height * width) % images * height * width;
    const float importance = weight ? weight[i] : 1;
    for (int corner = 0; corner < 4; ++corner) {
        const int target = target_of(to, corner, height, width);
        if (target < 0) continue;
        Entry entry;
        entry.source = i, entry.weight = importance * to.x[corner & 1] * to.y[corner >> 1];
        entries[start[first + target + 1] - atomicAdd(count + first + target, -1)] = entry;
    }
}

// Sort each list by source, for fill comes in any order and a sum depends on it: Shell's sort, which for the usual four entries
// is plain insertion. Then name the row of each, and with total given add up the weights and divide them by max(total, eps).
// One thread per pixel.
extern "C" __global__ void order_lists(const int* __restrict__ start, Entry* entries, float* total, float eps, int targets) {
    const int d = blockIdx.x * blockDim.y + threadIdx.y;
    if (d >= targets) return;
    Entry* list = entries + start[d];
    const int length = start[d + 1] - start[d];
    int gap = 1;
    while (gap < length / 3) gap = 3 * gap + 1;
    for (; gap > 0; gap /= 3)
        for (int k = gap; k < length; ++k) {
            const Entry moved = list[k];
            int to = k;
            for (; to >= gap && list[to - gap].source > moved.source; to -= gap) list[to] = list[to - gap];
            list[to] = moved;
        }
    float sum = 0;
    for (int k = 0; k < length; ++k) {
        list[k].source %= targets;                                      // field m reads image m % images
        sum += list[k].weight;
    }
    if (!total) return;
    const float scale = 1 / (sum > eps ? sum : eps);
    for (int k = 0; k < length; ++k) list[k].weight *= scale;
    total[d] = sum;
}

#else  // rows of pixels, in one of three ways of storing them

#ifdef T2C_FLOAT32
typedef float Stored;
__device__ inline float widen(Stored value) { return value; }
__device__ inline Stored narrow(float value) { return value; }
#endif

#ifdef T2C_BFLOAT16
typedef unsigned short Stored;                                          // the upper half of a float
__device__ inline float widen(Stored value) { return __uint_as_float((unsigned)value << 16); }
__device__ inline Stored narrow(float value) {                          // to nearest, ties to even; NaN stays NaN
    const unsigned bits = __float_as_uint(value);
    return value != value ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
#endif

#ifdef T2C_FLOAT16
typedef unsigned short Stored;                                          // 1 sign, 5 exponent, 10 mantissa bits
__device__ inline float widen(Stored value) {
    const unsigned sign = (value & 0x8000u) << 16, rest = value & 0x7fffu;
    const unsigned bits = rest >= 0x7c00 ? rest << 13 | 0x7f800000      // infinite, NaN
                                         : __float_as_uint(__uint_as_float(rest << 13) * 0x1p112f);  // exponent bias 127 - 15
    return __uint_as_float(bits | sign);
}
__device__ inline Stored narrow(float value) {                          // to nearest, ties to even; beyond 65520 infinite
    const unsigned bits = __float_as_uint(value), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest >= 0x47800000) return sign | (rest > 0x7f800000 ? 0x7e00 : 0x7c00);
    if (rest < 0x38800000)                                              // below 2^-14: let float's adder round to steps of 2^-24
        return sign | (__float_as_uint(__uint_as_float(rest) + 0.5f) - 0x3f000000);
    return sign | ((rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13);
}
#endif

struct alignas(4 * sizeof(Stored)) Four { Stored at[4]; };              // four channels, one load

// Thread (x, y) of a block works on pixel y and on every blockDim.x-th group of four channels, beginning with group x: neighbours
// read neighbouring memory, and each thread finds its pixel's weights once.

// out[d] = sum over d's list of weight * rows[source].
extern "C" __global__ void gather_rows(const int* __restrict__ start, const Entry* __restrict__ entries,
                                       const Four* __restrict__ rows, Four* __restrict__ out, int targets, int groups) {
    const int d = blockIdx.x * blockDim.y + threadIdx.y;
    if (d >= targets) return;
    const int first = start[d], last = start[d + 1];
    for (int group = threadIdx.x; group < groups; group += blockDim.x) {
        float sum[4] = {0, 0, 0, 0};
        for (int k = first; k < last; ++k) {
            const Entry entry = entries[k];
            const Four value = rows[(long long)entry.source * groups + group];
            for (int c = 0; c < 4; ++c) sum[c] += entry.weight * widen(value.at[c]);
        }
        Four result;
        for (int c = 0; c < 4; ++c) result.at[c] = narrow(sum[c]);
        out[(long long)d * groups + group] = result;
    }
}

__device__ inline void add_four(float* to, float a, float b, float c, float d) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    atomicAdd((float4*)to, make_float4(a, b, c, d));                    // one message instead of four
#else
    atomicAdd(to, a), atomicAdd(to + 1, b), atomicAdd(to + 2, c), atomicAdd(to + 3, d);
#endif
}

// The same sum the other way round, without lists: each source pixel adds itself to its targets, in whatever order they run.
extern "C" __global__ void scatter_rows(const float* __restrict__ flow, const Four* __restrict__ rows, float* out,
                                        int sources, int groups, int height, int width) {
    const int i = blockIdx.x * blockDim.y + threadIdx.y;
    if (i >= sources) return;
    const Landing to = land(flow, i, height, width);
    const int first = i / (height * width) * height * width;
    for (int group = threadIdx.x; group < groups; group += blockDim.x) {
        const Four stored = rows[(long long)i * groups + group];
        float value[4];
        for (int c = 0; c < 4; ++c) value[c] = widen(stored.at[c]);
        for (int corner = 0; corner < 4; ++corner) {
            const int target = target_of(to, corner, height, width);
            if (target < 0) continue;
            const float weight = to.x[corner & 1] * to.y[corner >> 1];
            add_four(out + ((long long)(first + target) * groups + group) * 4,
                     weight * value[0], weight * value[1], weight * value[2], weight * value[3]);
        }
    }
}

// With G = gradient of the sum, r = rows[i], w = x-share * y-share of each corner inside the image:
//   grad_rows[i] = sum of w G[corner],   grad_flow[i] = sum of dw/d(x, y) <r, G[corner]>,   dx-share = +1 right, -1 left.
// Each thread leaves its channels' part of grad_flow, [pixels, lanes, 2], to be added later. Either result may be null.
extern "C" __global__ void gather_gradient(const float* __restrict__ flow, const Four* __restrict__ rows,
                                           const Four* __restrict__ grad_out, Four* __restrict__ grad_rows,
                                           float* __restrict__ grad_flow, int sources, int groups, int height, int width) {
    const int i = blockIdx.x * blockDim.y + threadIdx.y;
    if (i >= sources) return;
    const Landing to = land(flow, i, height, width);
    const int first = i / (height * width) * height * width;
    float along_x = 0, along_y = 0;
    for (int group = threadIdx.x; group < groups; group += blockDim.x) {
        float sum[4] = {0, 0, 0, 0};
        Four value;
        if (grad_flow) value = rows[(long long)i * groups + group];
        #pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
            const int right = corner & 1, low = corner >> 1, target = pixel_of(to, corner, height, width);
            if (target < 0) continue;
            const Four gradient = grad_out[(long long)(first + target) * groups + group];
            float product = 0;
            for (int c = 0; c < 4; ++c) {
                sum[c] += to.x[right] * to.y[low] * widen(gradient.at[c]);
                if (grad_flow) product += widen(value.at[c]) * widen(gradient.at[c]);
            }
            along_x += (right ? to.y[low] : -to.y[low]) * product;
            along_y += (low ? to.x[right] : -to.x[right]) * product;
        }
        if (!grad_rows) continue;
        Four result;
        for (int c = 0; c < 4; ++c) result.at[c] = narrow(sum[c]);
        grad_rows[(long long)i * groups + group] = result;
    }
    if (!grad_flow) return;
    float* part = grad_flow + ((long long)i * blockDim.x + threadIdx.x) * 2;
    part[0] = along_x, part[1] = along_y;
}

#endif
