/* A whole data plane for unit tests: one tunnel that protects everything, with SAs that send to itself. */
#ifndef DP_TEST_PLANE_H
#define DP_TEST_PLANE_H

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "selectors.h"
#include "unit.h"

enum {
    KEYMAT = 20, /* AES-128-GCM: key and salt */
    PACKET = 100,
};
#define SECOND UINT64_C(1000000000)
#define START (1000 * SECOND)

static inline struct dp *plane_new_holding(uint32_t workers, uint32_t hold_octets) {
    struct dp_config config = {.sa_slots = 256,
                               .tunnels = 4,
                               .interfaces = 4,
                               .workers = workers,
                               .stranger_rate = 10,
                               .stranger_burst = 100,
                               .hold_octets = hold_octets};
    struct dp *dp = NULL;
    assert_int_equal(dp_create(&config, &dp), 0);
    return dp;
}

static inline struct dp *plane_new(uint32_t workers) {
    return plane_new_holding(workers, 0);
}

static inline void plane_protect(struct dp *dp) {
    struct dp_rule rules[2];
    memset(rules, 0, sizeof rules);
    for (unsigned i = 0; i < 2; i++)
        rules[i] = (struct dp_rule){.selector = any_selector(4), .interface = i, .action = DP_PROTECT};
    struct dp_policy *policy;
    size_t bad;
    assert_int_equal(dp_policy_build(rules, 2, &policy, &bad), 0);
    dp_policy_install(dp, policy);
}

static inline struct dp_addr loopback(uint16_t port) {
    struct dp_addr a = {.family = 4, .port = port, .ip = {127, 0, 0, 1}};
    return a;
}

static inline struct dp_sa_params plane_params(uint32_t spi, uint32_t link, uint16_t port) {
    struct dp_sa_params p;
    memset(&p, 0, sizeof p);
    p.spi = spi;
    p.encr = DP_ENCR_AES_GCM_16;
    p.key_octets = 16;
    p.replay_window = 1024;
    p.path = (struct dp_path){.local = loopback(port),
                              .remote = loopback(port),
                              .encapsulation = DP_ENCAPSULATION_UDP,
                              .df = DP_DF_SET,
                              .link = (uint16_t)link};
    return p;
}

/* An SA in one direction under a key that the SPI decides. */
static inline dp_sa_id plane_install(struct dp *dp, unsigned direction, const struct dp_sa_params *params) {
    uint8_t keymat[KEYMAT];
    memset(keymat, (int)(params->spi & 0xff), sizeof keymat);
    struct dp_selector any = any_selector(4);
    dp_sa_id id = 0;
    assert_int_equal(dp_sa_install(dp, direction, params, keymat, sizeof keymat, &any, 1, &id), 0);
    return id;
}

/* An IPv4 packet of PACKET octets without an upper layer that anybody checks. */
static inline void plane_packet(uint8_t packet[PACKET], uint8_t mark) {
    memset(packet, mark, PACKET);
    static const uint8_t header[20] = {0x45, 0, 0, PACKET, 0, 0, 0, 0, 64, 253, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1};
    memcpy(packet, header, sizeof header);
}

static inline uint64_t keys_in_use(const struct dp *dp) {
    struct dp_arena_info info;
    dp_arena_read(dp, &info);
    return info.in_use;
}

#endif
