/* The Internet checksum (RFC 1071). Sums are kept as the words lie in memory: on a little-endian machine their octets are swapped,
 * which a ones' complement sum does not mind (RFC 1071 §2(B)). */
#ifndef DP_CHECKSUM_H
#define DP_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The sum of `octets` as 16-bit words, the last one padded with a zero octet, folded to 16 bits and not inverted, starting from
 * `sum`. */
uint32_t dp_checksum(const uint8_t *data, size_t octets, uint32_t sum);

/* A sum of 16- and 32-bit words, folded to 16 bits. Nothing but a sum of zeros folds to zero. */
static inline uint16_t dp_checksum_fold(uint64_t sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* A 16-bit word as it lies in the packet, for sums and for storing what was summed. */
static inline uint16_t dp_word_16(const uint8_t *octets) {
    uint16_t word;
    memcpy(&word, octets, sizeof word);
    return word;
}

static inline void dp_store_word_16(uint8_t *octets, uint16_t word) {
    memcpy(octets, &word, sizeof word);
}

#endif
