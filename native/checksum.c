#include "checksum.h"

/* Four 64-bit lanes. Where the target has no such registers the compiler uses narrower ones. */
typedef uint64_t lanes __attribute__((vector_size(32)));
typedef uint64_t lanes_anywhere __attribute__((vector_size(32), aligned(1), may_alias));

/* The sum of whole 32-bit words, in 64 bits: no carries to follow. */
static inline __attribute__((always_inline)) uint64_t sum_words(const uint8_t *data, size_t octets) {
    const lanes low = {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff};
    lanes even = {0}, odd = {0}, even_2 = {0}, odd_2 = {0};
    size_t at = 0;
    for (; at + 64 <= octets; at += 64) {
        lanes a = *(const lanes_anywhere *)(data + at), b = *(const lanes_anywhere *)(data + at + 32);
        even += a & low;
        odd += a >> 32;
        even_2 += b & low;
        odd_2 += b >> 32;
    }
    lanes all = even + odd + even_2 + odd_2;
    uint64_t total = all[0] + all[1] + all[2] + all[3];
    for (; at + 4 <= octets; at += 4) {
        uint32_t word;
        memcpy(&word, data + at, sizeof word);
        total += word;
    }
    return total;
}

static uint64_t sum_words_portable(const uint8_t *data, size_t octets) {
    return sum_words(data, octets);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t sum_words_avx2(const uint8_t *data, size_t octets) {
    return sum_words(data, octets);
}
#endif

uint32_t dp_checksum(const uint8_t *data, size_t octets, uint32_t sum) {
    size_t whole = octets & ~(size_t)3;
    uint64_t total;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        total = sum_words_avx2(data, whole);
    else
#endif
        total = sum_words_portable(data, whole);
    uint32_t rest = 0;
    memcpy(&rest, data + whole, octets - whole);
    /* Each lane adds at most 2^32 a step, so no sum of fewer than 2^32 octets overflows. */
    return dp_checksum_fold(total + rest + sum);
}
