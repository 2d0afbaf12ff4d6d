/* What the tests of SAs that go on elsewhere share: two data planes, and packets through one SA. */
#ifndef DP_TEST_TWO_PLANES_H
#define DP_TEST_TWO_PLANES_H

#include "plane.h"

enum {
    ROW = 256,
    ROWS = 64,
    SPI = 0x1001,
    SEQUENCE_AT = 4, /* behind the SPI */
    IV_AT = 8,       /* behind SPI and sequence number */
};

struct rows {
    uint8_t data[ROWS][ROW];
    uint32_t octets[ROWS];
    uint8_t reason[ROWS];
};

static inline struct dp_sa_params params_of(bool esn) {
    struct dp_sa_params p = plane_params(SPI, 0, 4500);
    p.esn = esn;
    return p;
}

/* `n` packets through an outbound SA, ROWS at the most: what left of each, and why not. */
static inline void seal_rows(struct dp *dp, dp_sa_id id, unsigned n, struct rows *sealed) {
    static struct rows plain;
    for (unsigned i = 0; i < n; i++) {
        plane_packet(plain.data[i], (uint8_t)i);
        plain.octets[i] = PACKET;
    }
    assert_true(dp_seal_burst(dp, id, plain.data[0], plain.octets, ROW, sealed->data[0], sealed->octets, ROW, n, sealed->reason,
                              START) >= 0);
}

/* One packet through an outbound SA: why not, and what left. */
static inline enum dp_drop seal_packet(struct dp *dp, dp_sa_id id, uint8_t sealed[ROW], uint32_t *octets) {
    uint8_t in[ROW], reason = 0;
    const uint32_t length = PACKET;
    plane_packet(in, 7);
    assert_true(dp_seal_burst(dp, id, in, &length, ROW, sealed, octets, ROW, 1, &reason, START) >= 0);
    return reason;
}

static inline enum dp_drop seal_one(struct dp *dp, dp_sa_id id) {
    uint8_t sealed[ROW];
    uint32_t octets;
    return seal_packet(dp, id, sealed, &octets);
}

static inline enum dp_drop open_packet(struct dp *dp, const uint8_t sealed[ROW], uint32_t octets) {
    uint8_t out[ROW], reason = 0;
    uint32_t length = 0;
    assert_true(dp_open_burst(dp, sealed, &octets, ROW, out, &length, ROW, 1, &reason, START) >= 0);
    return reason;
}

static inline enum dp_drop open_row(struct dp *dp, const struct rows *sealed, unsigned i) {
    return open_packet(dp, sealed->data[i], sealed->octets[i]);
}

static inline uint32_t sequence_of(const uint8_t *sealed) {
    uint32_t number;
    memcpy(&number, sealed + SEQUENCE_AT, sizeof number);
    return __builtin_bswap32(number);
}

static inline uint64_t iv_of(const uint8_t *sealed) {
    uint64_t iv;
    memcpy(&iv, sealed + IV_AT, sizeof iv);
    return __builtin_bswap64(iv);
}

/* An SA begins where another stopped. */
static inline dp_sa_id arrive(struct dp *dp, unsigned direction, const struct dp_sa_params *p, const struct dp_sa_state *state,
                              const uint8_t *keymat) {
    struct dp_selector any = any_selector(4);
    dp_sa_id id = 0;
    assert_int_equal(dp_sa_import(dp, direction, p, keymat, KEYMAT, &any, 1, state, &id), 0);
    return id;
}

/* `*state`: two data planes of one worker each. */
static inline int two_planes(void **state) {
    static struct dp *planes[2];
    planes[0] = plane_new(1);
    planes[1] = plane_new(1);
    *state = planes;
    return 0;
}

static inline int end_two_planes(void **state) {
    struct dp **planes = *state;
    dp_destroy(planes[0]);
    dp_destroy(planes[1]);
    return 0;
}

#endif
