/* Making and ending a data plane, and what it says of itself. */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "aead.h"
#include "child.h"
#include "cookie.h"
#include "early.h"
#include "epoch.h"
#include "events.h"
#include "examples.h"
#include "fragment_state.h"
#include "handover.h"
#include "hold.h"
#include "ike_peers.h"
#include "ike_quiet.h"
#include "io_set.h"
#include "keys.h"
#include "punt.h"
#include "sa.h"
#include "sharing.h"
#include "tap.h"
#include "traffic.h"

enum {
    DP_TUNNELS_MAX = 1 << 20,
    DP_INTERFACES_MAX = 4096,
    DP_WORKERS_MAX = 64,
    DP_HOLD_MAX = 1 << 20,
    DP_TOO_BIG_RATE = 100, /* ICMP messages a second and inner source (RFC 1812 §4.3.2.8, RFC 4443 §2.4) */
    DP_TOO_BIG_BURST = 50,
    DP_AREA_OCTETS = DP_BURSTS * DP_PACKET_ROOM, /* only what is touched becomes resident */
};

static const char *const drop_names[DP_DROP_COUNT] = {[DP_OK] = "ok",
#define DROP_NAME(name, sentence) [DP_DROP_##name] = #name,
                                                      DP_DROPS(DROP_NAME)
#undef DROP_NAME
};

static const char *const drop_sentences[DP_DROP_COUNT] = {[DP_OK] = "not dropped",
#define DROP_SENTENCE(name, sentence) [DP_DROP_##name] = sentence,
                                                          DP_DROPS(DROP_SENTENCE)
#undef DROP_SENTENCE
};

const char *dp_drop_name(unsigned reason) {
    return reason < DP_DROP_COUNT ? drop_names[reason] : NULL;
}

const char *dp_drop_sentence(unsigned reason) {
    return reason < DP_DROP_COUNT ? drop_sentences[reason] : NULL;
}

static bool config_valid(const struct dp_config *c) {
    return c->tunnels >= 1 && c->tunnels <= DP_TUNNELS_MAX && c->interfaces >= 1 && c->interfaces <= DP_INTERFACES_MAX &&
           c->workers >= 1 && c->workers <= DP_WORKERS_MAX && c->provider <= DP_PROVIDER_IPSEC_MB && c->stranger_rate >= 1 &&
           c->stranger_burst >= 1 && c->hold_octets <= DP_HOLD_MAX;
}

static int area_open(struct dp_area *area) {
    void *p = mmap(NULL, DP_AREA_OCTETS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -errno;
    /* Plaintext passes through here. */
    (void)madvise(p, DP_AREA_OCTETS, MADV_DONTDUMP);
    *area = (struct dp_area){.base = p, .octets = DP_AREA_OCTETS};
    return 0;
}

static void area_close(struct dp_area *area) {
    if (area->base != NULL)
        munmap(area->base, area->octets);
}

static int loop_open(struct dp *dp, struct dp_loop *loop, uint32_t worker, unsigned direction) {
    loop->dp = dp;
    loop->worker = worker;
    loop->direction = (uint8_t)direction;
    loop->cpu = -1;
    int error = area_open(&loop->received);
    if (error == 0)
        error = area_open(&loop->built);
    if (error == 0)
        error = dp_loop_open_events(loop);
    if (error == 0)
        error = dp_handover_open(dp, loop);
    if (error == 0)
        error = dp_spread_open(loop);
    if (error != 0)
        return error;
    loop->examples = dp_examples_new();
    if (loop->examples == NULL)
        return -ENOMEM;
    uint64_t seed;
    if (!dp_random_next(&dp->random, &seed))
        return -EIO;
    if (direction == DP_OUTBOUND) {
        loop->hold = dp_hold_new(dp->config.tunnels, dp->config.hold_octets);
        loop->limiter = dp_punt_limiter_new(DP_TOO_BIG_RATE, DP_TOO_BIG_BURST, seed);
        return loop->hold != NULL && loop->limiter != NULL ? 0 : -ENOMEM;
    }
    return dp_ike_gate_open(&loop->gate, dp, true, worker == 0); /* to whose sockets IKE comes */
}

static void loop_close(struct dp *dp, struct dp_loop *loop) {
    dp_handover_close(dp, loop);
    dp_spread_close(loop);
    area_close(&loop->received);
    area_close(&loop->built);
    free(loop->limiter);
    dp_ike_gate_close(&loop->gate);
    dp_hold_free(loop->hold);
    dp_examples_free(loop->examples);
    dp_loop_close_events(loop);
}

static size_t loop_octets(const struct dp_loop *loop) {
    return loop->received.octets + loop->built.octets + dp_handover_octets(loop);
}

int64_t dp_worker_octets(const struct dp *dp, uint32_t worker) {
    if (worker >= dp->config.workers)
        return -EINVAL;
    const struct dp_worker *w = &dp->worker[worker];
    return (int64_t)(sizeof *w + loop_octets(&w->outbound) + loop_octets(&w->inbound));
}

static int open_parts(struct dp *dp) {
    dp->worker = aligned_alloc(64, dp->config.workers * sizeof *dp->worker);
    if (dp->worker == NULL)
        return -ENOMEM;
    memset(dp->worker, 0, dp->config.workers * sizeof *dp->worker);
    for (uint32_t w = 0; w < dp->config.workers; w++)
        dp->worker[w].inbound.wake_fd = dp->worker[w].inbound.epoll_fd = dp->worker[w].outbound.wake_fd =
            dp->worker[w].outbound.epoll_fd = -1;
    dp->tunnel = calloc(dp->config.tunnels, sizeof *dp->tunnel);
    dp->traffic = calloc(dp->config.tunnels, sizeof *dp->traffic);
    dp->arena = dp_arena_create();
    for (unsigned direction = DP_INBOUND; direction <= DP_OUTBOUND; direction++)
        dp->fragments[direction] = dp_fragment_states_new(dp->flow_seed);
    if (dp->tunnel == NULL || dp->traffic == NULL || dp->arena == NULL || dp->fragments[DP_INBOUND] == NULL ||
        dp->fragments[DP_OUTBOUND] == NULL)
        return -ENOMEM;
    int error = 0;
    for (uint32_t w = 0; w < dp->config.workers && error == 0; w++)
        error = dp_sharing_open(&dp->worker[w]);
    if (error == 0)
        error = dp_sa_table_init(dp);
    if (error == 0)
        error = dp_own_outer_init(dp);
    if (error == 0)
        error = dp_ike_sas_init(dp);
    if (error == 0)
        error = dp_ike_peers_init(dp);
    if (error == 0)
        error = dp_ike_port_open(dp);
    if (error == 0)
        error = dp_early_open(dp);
    if (error == 0)
        error = dp_punt_open(dp);
    for (uint32_t w = 0; w < dp->config.workers && error == 0; w++) {
        error = loop_open(dp, &dp->worker[w].inbound, w, DP_INBOUND);
        if (error == 0)
            error = loop_open(dp, &dp->worker[w].outbound, w, DP_OUTBOUND);
        if (error == 0)
            error = dp_worker_open_events(&dp->worker[w]);
    }
    return error;
}

int dp_create(const struct dp_config *config, struct dp **out) {
    if (!config_valid(config))
        return -EINVAL;
    int error = dp_cipher_load();
    if (error != 0)
        return error;
    if (dp_cipher_find(config->provider, DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 16) == NULL)
        return -ENOTSUP;
    struct dp *dp = aligned_alloc(64, (sizeof *dp + 63) & ~(size_t)63);
    if (dp == NULL)
        return -ENOMEM;
    memset(dp, 0, sizeof *dp);
    memset(dp->punt_fd, 0xff, sizeof dp->punt_fd);
    dp->config = *config;
    dp->random = (struct dp_random){.seeded = config->seeded != 0, .state = config->seed};
    dp_epoch_init(&dp->epoch);
    error = dp_random_next(&dp->random, &dp->flow_seed) ? open_parts(dp) : -EIO;
    if (error != 0) {
        dp_destroy(dp);
        return error;
    }
    *out = dp;
    return 0;
}

void dp_destroy(struct dp *dp) {
    if (dp == NULL)
        return;
    for (uint32_t w = 0; dp->worker != NULL && w < dp->config.workers; w++)
        (void)dp_worker_stop(dp, w);
    dp_ike_port_stop(dp);
    if (dp->worker != NULL) {
        (void)dp_epoch_reclaim(dp);
        dp_io_finish(dp);
    }
    dp_children_finish(dp);
    dp_sa_table_finish(dp);
    dp_own_outer_finish(dp);
    dp_ike_sas_finish(dp);
    dp_ike_port_close(dp);
    dp_cookie_secret_finish(dp);
    dp_ike_quiet_finish(dp);
    dp_ike_peers_finish(dp);
    dp_early_close(dp);
    dp_tap_finish(dp);
    dp_policy_free(atomic_load_explicit(&dp->policy, memory_order_relaxed));
    for (uint32_t w = 0; dp->worker != NULL && w < dp->config.workers; w++) {
        loop_close(dp, &dp->worker[w].inbound);
        loop_close(dp, &dp->worker[w].outbound);
        dp_sharing_close(&dp->worker[w]);
    }
    dp_punt_close(dp);
    dp_arena_destroy(dp->arena);
    for (unsigned direction = DP_INBOUND; direction <= DP_OUTBOUND; direction++)
        dp_fragment_states_free(dp->fragments[direction]);
    free(dp->tunnel);
    dp_traffic_finish(dp);
    free(dp->worker);
    free(dp);
}

const char *dp_provider_name(const struct dp *dp) {
    return dp_cipher_find(dp->config.provider, DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 16)->provider;
}

const char *dp_provider_reason(const struct dp *dp) {
    return dp->config.provider == DP_PROVIDER_OPENSSL ? "OpenSSL was asked for" : dp_cipher_reason();
}

void dp_arena_read(const struct dp *dp, struct dp_arena_info *info) {
    dp_arena_info(dp->arena, info);
}

static void policy_free(struct dp *dp, void *thing) {
    (void)dp;
    dp_policy_free(thing);
}

void dp_policy_install(struct dp *dp, struct dp_policy *policy) {
    dp_epoch_retire(dp, policy_free, atomic_exchange_explicit(&dp->policy, policy, memory_order_seq_cst));
}

static void add_loop(struct dp_counters *out, const struct dp_loop *loop) {
    for (unsigned r = 0; r < DP_DROP_COUNT; r++)
        out->drops[r] += atomic_load_explicit(&loop->drops[r], memory_order_relaxed);
    uint64_t packets = atomic_load_explicit(&loop->packets, memory_order_relaxed);
    uint64_t octets = atomic_load_explicit(&loop->octets, memory_order_relaxed);
    if (loop->direction == DP_OUTBOUND) {
        out->packets_out += packets;
        out->octets_out += octets;
    } else {
        out->packets_in += packets;
        out->octets_in += octets;
    }
    out->keepalives_in += atomic_load_explicit(&loop->keepalives, memory_order_relaxed);
    out->ike_in += atomic_load_explicit(&loop->ike, memory_order_relaxed);
    out->punts_limited += atomic_load_explicit(&loop->punts_limited, memory_order_relaxed);
    out->punts_lost += atomic_load_explicit(&loop->punts_lost, memory_order_relaxed);
    out->handed_over += atomic_load_explicit(&loop->handed_over, memory_order_relaxed);
    out->taken_over += atomic_load_explicit(&loop->taken_over, memory_order_relaxed);
    out->cookies_sent += atomic_load_explicit(&loop->gate.answered, memory_order_relaxed);
}

static void add_worker(struct dp_counters *out, const struct dp_worker *worker) {
    add_loop(out, &worker->inbound);
    add_loop(out, &worker->outbound);
}

static void add_shared(struct dp_counters *out, const struct dp *dp) {
    out->drops[DP_DROP_ike_limited] += atomic_load_explicit(&dp->ike_port.limited, memory_order_relaxed);
    out->drops[DP_DROP_punt_full] += atomic_load_explicit(&dp->ike_port.lost, memory_order_relaxed);
    out->drops[DP_DROP_ike_icv] += atomic_load_explicit(&dp->ike_port.forged, memory_order_relaxed);
    out->cookies_sent += atomic_load_explicit(&dp->ike_port.gate.answered, memory_order_relaxed);
    out->drops[DP_DROP_reserved_dropped] += dp_early_dropped(dp);
}

void dp_counters_read(const struct dp *dp, struct dp_counters *out) {
    memset(out, 0, sizeof *out);
    for (uint32_t w = 0; w < dp->config.workers; w++)
        add_worker(out, &dp->worker[w]);
    add_shared(out, dp);
}

int dp_counters_import(struct dp *dp, uint32_t worker, const struct dp_counters *c) {
    if (worker >= dp->config.workers)
        return -EINVAL;
    struct dp_loop *in = &dp->worker[worker].inbound, *out = &dp->worker[worker].outbound;
    if (in->running || out->running)
        return -EBUSY;
    for (unsigned r = 0; r < DP_DROP_COUNT; r++)
        dp_add(&out->drops[r], c->drops[r]);
    dp_add(&out->packets, c->packets_out);
    dp_add(&out->octets, c->octets_out);
    dp_add(&in->packets, c->packets_in);
    dp_add(&in->octets, c->octets_in);
    dp_add(&in->keepalives, c->keepalives_in);
    dp_add(&in->ike, c->ike_in);
    dp_add(&in->punts_limited, c->punts_limited);
    dp_add(&in->punts_lost, c->punts_lost);
    dp_add(&in->handed_over, c->handed_over);
    dp_add(&in->taken_over, c->taken_over);
    dp_add(&in->gate.answered, c->cookies_sent);
    return 0;
}

int dp_worker_counters_read(const struct dp *dp, uint32_t worker, struct dp_counters *out) {
    if (worker >= dp->config.workers)
        return -EINVAL;
    memset(out, 0, sizeof *out);
    add_worker(out, &dp->worker[worker]);
    return 0;
}

int dp_counters_export(const struct dp *dp, uint32_t worker, struct dp_counters *out) {
    int error = dp_worker_counters_read(dp, worker, out);
    if (error == 0 && worker == 0)
        add_shared(out, dp);
    return error;
}
