/* Packets that come before their SA is there: kept for the SPIs of requests under way, taken first and in order when the SA is
 * installed, wiped when it is not; who may fill the room, and how far. ThreadSanitizer and AddressSanitizer watch the last one. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clock.h"
#include "early.h"
#include "plane.h"

enum {
    QUEUE = 8192,
    SEALED_MAX = 2048,
    FULL = 900, /* octets of a packet with which the room is filled */
};

/* Two planes: one seals, the other is the one that waits. */
struct pair {
    struct dp *peer, *dp;
    uint32_t spi, child;
    dp_sa_id in;
};

static struct dp_sa_params params_of(const struct pair *p) {
    return plane_params(p->spi, 0, 4500);
}

static struct dp *attached(uint32_t workers) {
    struct dp *dp = plane_new(workers);
    struct dp_addr here = loopback(4500);
    plane_protect(dp);
    for (uint32_t w = 0; w < workers; w++) {
        assert_int_equal(dp_mem_tun_attach(dp, w, 0, QUEUE), 0);
        assert_int_equal(dp_mem_link_attach(dp, w, DP_ENCAPSULATION_UDP, &here, QUEUE), 0);
    }
    return dp;
}

static struct pair pair_new(uint32_t workers) {
    struct pair p = {.peer = attached(1), .dp = attached(workers)};
    assert_int_equal(dp_spi_allocate(p.dp, 0xab000000, &p.spi), 0);
    struct dp_sa_params out = params_of(&p);
    struct dp_selector any = any_selector(4);
    assert_int_equal(dp_child_add(p.peer, 0, &any, 1, &p.child), 0);
    assert_int_equal(dp_child_switch(p.peer, 0, p.child, plane_install(p.peer, DP_OUTBOUND, &out)), 0);
    return p;
}

static void pair_free(struct pair *p) {
    dp_destroy(p->peer);
    dp_destroy(p->dp);
}

static void expect_from(struct pair *p, uint16_t port) {
    struct dp_addr peer = loopback(port);
    assert_int_equal(dp_spi_expect(p->dp, p->spi, &peer), 0);
}

/* The next packet of the peer, sealed. */
static size_t sealed(struct pair *p, uint32_t number, uint8_t data[SEALED_MAX]) {
    uint8_t packet[PACKET];
    struct dp_mem_meta meta;
    plane_packet(packet, 0);
    memcpy(packet + 40, &number, sizeof number);
    assert_int_equal(dp_mem_tun_push(p->peer, 0, 0, packet, PACKET), 0);
    assert_int_equal(dp_outbound_step(p->peer, 0, 1, START), 1);
    int octets = dp_mem_link_pull(p->peer, 0, 0, &meta, data, SEALED_MAX);
    assert_true(octets > 0);
    return (size_t)octets;
}

static void arrives(struct pair *p, uint32_t worker, uint16_t port, const uint8_t *data, size_t octets) {
    struct dp_mem_meta meta = {.local = loopback(4500), .remote = loopback(port)};
    assert_int_equal(dp_mem_link_push(p->dp, worker, 0, &meta, data, octets), 0);
}

static void send_numbered(struct pair *p, uint32_t from, uint32_t to, uint16_t port) {
    for (uint32_t i = from; i < to; i++) {
        uint8_t data[SEALED_MAX];
        size_t octets = sealed(p, i, data);
        arrives(p, 0, port, data, octets);
    }
}

static void step(struct pair *p, uint64_t now) {
    while (dp_inbound_step(p->dp, 0, 256, now) > 0)
        continue;
}

static void install(struct pair *p) {
    struct dp_sa_params in = params_of(p);
    p->in = plane_install(p->dp, DP_INBOUND, &in);
}

static uint64_t dropped(const struct pair *p, enum dp_drop reason) {
    struct dp_counters c;
    dp_counters_read(p->dp, &c);
    return c.drops[reason];
}

/* What came out has the numbers from..to-1, in this order. */
static void assert_got(struct pair *p, uint32_t from, uint32_t to) {
    uint8_t data[2048];
    for (uint32_t i = from; i < to; i++) {
        assert_int_equal(dp_mem_tun_pull(p->dp, 0, 0, data, sizeof data), PACKET);
        assert_memory_equal(data + 40, &i, sizeof i);
    }
    assert_true(dp_mem_tun_pull(p->dp, 0, 0, data, sizeof data) <= 0);
}

static void test_what_came_before_the_sa_goes_first_and_in_order(void **state) {
    (void)state;
    struct pair p = pair_new(1);
    expect_from(&p, 4500);
    send_numbered(&p, 0, 64, 4500);
    step(&p, START);
    assert_got(&p, 0, 0);
    install(&p);
    send_numbered(&p, 64, 70, 4500);
    step(&p, START + SECOND);
    assert_got(&p, 0, 70);
    for (unsigned reason = 1; reason < DP_DROP_COUNT; reason++)
        assert_int_equal(dropped(&p, (enum dp_drop)reason), 0);
    pair_free(&p);
}

/* Far more than the replay window holds: a packet that went ahead of them would make them too old. */
static void test_nothing_overtakes_what_was_kept(void **state) {
    (void)state;
    struct pair p = pair_new(1);
    expect_from(&p, 4500);
    send_numbered(&p, 0, 3000, 4500);
    step(&p, START);
    send_numbered(&p, 3000, 3001, 4500); /* received before the loop begins its next step */
    install(&p);
    step(&p, START);
    assert_got(&p, 0, 3001);
    assert_int_equal(dropped(&p, DP_DROP_too_old), 0);
    pair_free(&p);
}

static void test_what_is_in_no_request_is_an_unknown_spi(void **state) {
    (void)state;
    struct pair p = pair_new(1);
    send_numbered(&p, 0, 3, 4500);
    step(&p, START);
    install(&p);
    step(&p, START);
    assert_got(&p, 0, 0);
    assert_int_equal(dropped(&p, DP_DROP_unknown_spi), 3);
    assert_int_equal(dropped(&p, DP_DROP_reserved_dropped), 0);
    struct dp_addr nobody = {0}, somebody = loopback(1);
    assert_int_equal(dp_spi_expect(p.dp, p.spi + 1, &somebody), -EINVAL);
    assert_int_equal(dp_spi_expect(p.dp, p.spi, &somebody), -EINVAL); /* it is installed */
    assert_int_equal(dp_spi_expect(p.dp, p.spi, &nobody), -EINVAL);
    pair_free(&p);
}

static void test_only_the_peer_of_the_request_is_kept(void **state) {
    (void)state;
    struct pair p = pair_new(1);
    expect_from(&p, 4501);
    send_numbered(&p, 0, 5, 4500);
    step(&p, START);
    assert_int_equal(dropped(&p, DP_DROP_unknown_spi), 5);
    expect_from(&p, 4500); /* it moved */
    send_numbered(&p, 5, 10, 4500);
    step(&p, START);
    install(&p);
    step(&p, START);
    assert_got(&p, 5, 10);
    assert_int_equal(dropped(&p, DP_DROP_unknown_spi), 5);
    pair_free(&p);
}

static void test_a_request_that_fails_wipes_and_counts(void **state) {
    (void)state;
    struct pair p = pair_new(1);
    expect_from(&p, 4500);
    send_numbered(&p, 0, 7, 4500);
    step(&p, START);
    dp_spi_release(p.dp, p.spi);
    assert_int_equal(dropped(&p, DP_DROP_reserved_dropped), 7);
    install(&p);
    send_numbered(&p, 7, 8, 4500);
    step(&p, START);
    assert_got(&p, 7, 8);
    pair_free(&p);
}

static void test_a_packet_is_kept_for_two_seconds(void **state) {
    (void)state;
    struct pair p = pair_new(1);
    expect_from(&p, 4500);
    send_numbered(&p, 0, 4, 4500);
    step(&p, START);
    send_numbered(&p, 4, 8, 4500);
    step(&p, START + SECOND);
    install(&p);
    step(&p, START + DP_EARLY_NS);
    assert_got(&p, 4, 8);
    assert_int_equal(dropped(&p, DP_DROP_reserved_dropped), 4);
    pair_free(&p);
}

/* Forged with the peer's address, the right SPI and the right port: it goes the ordinary way, where it has no ICV. */
static void test_forged_packets_among_them_cost_no_genuine_one(void **state) {
    (void)state;
    struct pair p = pair_new(1);
    expect_from(&p, 4500);
    for (uint32_t i = 0; i < 50; i++) {
        uint8_t data[SEALED_MAX];
        size_t octets = sealed(&p, i, data);
        data[octets - 1] ^= 1;
        arrives(&p, 0, 4500, data, octets);
        data[octets - 1] ^= 1;
        arrives(&p, 0, 4500, data, octets);
    }
    step(&p, START);
    install(&p);
    step(&p, START);
    assert_got(&p, 0, 50);
    assert_int_equal(dropped(&p, DP_DROP_icv), 50);
    pair_free(&p);
}

/* One SPI has 1 MiB, all have 32 MiB, and a flood on some leaves the others their part. */
static void test_a_flood_costs_its_spi_its_room_and_no_other(void **state) {
    (void)state;
    struct pair p = pair_new(1);
    enum {
        SPIS = 100
    };
    uint32_t spi[SPIS];
    struct dp_addr peer = loopback(4500);
    for (unsigned i = 0; i < SPIS; i++) {
        assert_int_equal(dp_spi_allocate(p.dp, 0xcd000000, &spi[i]), 0);
        assert_int_equal(dp_spi_expect(p.dp, spi[i], &peer), 0);
    }
    uint64_t all = 0, most = 0;
    for (unsigned i = 0; i < SPIS; i++) {
        uint64_t before = dropped(&p, DP_DROP_reserved_dropped), sent = 0;
        uint8_t data[FULL] = {0};
        for (unsigned k = 0; k < 4; k++)
            data[k] = (uint8_t)(spi[i] >> (24 - 8 * k));
        while (sent < 2 * DP_EARLY_SPI / FULL) {
            for (unsigned k = 0; k < 512; k++, sent++)
                arrives(&p, 0, 4500, data, sizeof data);
            step(&p, START);
        }
        uint64_t kept = sent - (dropped(&p, DP_DROP_reserved_dropped) - before);
        assert_true(kept > 0); /* whatever the others took */
        all += kept * FULL;
        most = kept * FULL > most ? kept * FULL : most;
    }
    assert_in_range(most, 1, DP_EARLY_SPI);
    assert_in_range(all, DP_EARLY_ALL / 2, DP_EARLY_ALL);
    assert_int_equal(dropped(&p, DP_DROP_unknown_spi), 0);
    for (unsigned i = 0; i < SPIS; i++)
        dp_spi_release(p.dp, spi[i]);
    expect_from(&p, 4500); /* all room is there again */
    send_numbered(&p, 0, 100, 4500);
    step(&p, START);
    install(&p);
    step(&p, START);
    assert_got(&p, 0, 100);
    pair_free(&p);
}

/* Octets that are kept of more than there is room for. */
static uint64_t flood(struct pair *p) {
    expect_from(p, 4500);
    uint8_t data[FULL] = {0};
    for (unsigned k = 0; k < 4; k++)
        data[k] = (uint8_t)(p->spi >> (24 - 8 * k));
    uint64_t sent = 0;
    while (sent < 4096) {
        for (unsigned k = 0; k < 512; k++, sent++)
            arrives(p, 0, 4500, data, sizeof data);
        step(p, START);
    }
    return (sent - dropped(p, DP_DROP_reserved_dropped)) * FULL;
}

static void test_one_flood_has_a_mebibyte(void **state) {
    (void)state;
    struct pair p = pair_new(1);
    assert_in_range(flood(&p), DP_EARLY_SPI * 8 / 10, DP_EARLY_SPI);
    pair_free(&p);
}

/* Octets of this process that are resident. */
static uint64_t resident(void) {
    unsigned long now = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    assert_int_equal(fscanf(statm, "%*u %lu", &now), 1);
    fclose(statm);
    return now * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void test_a_floods_memory_goes_back_also_where_all_of_it_is_locked(void **state) {
    (void)state;
    (void)dp_process_lock(); /* whoever may not shows that it goes back as ever */
    struct pair p = pair_new(1);
    assert_in_range(flood(&p), DP_EARLY_SPI * 8 / 10, DP_EARLY_SPI);
    uint64_t before = resident();
    dp_spi_release(p.dp, p.spi);
    assert_in_range(before - resident(), DP_EARLY_SPI * 8 / 10, DP_EARLY_ALL);
    pair_free(&p);
    assert_int_equal(munlockall(), 0);
}

static void test_more_requests_than_there_is_room_for_are_refused(void **state) {
    (void)state;
    struct dp_config config = {
        .sa_slots = 8192, .tunnels = 1, .interfaces = 1, .workers = 1, .stranger_rate = 1, .stranger_burst = 1};
    struct dp *dp = NULL;
    struct dp_addr peer = loopback(4500);
    uint32_t spi = 0, first = 0;
    assert_int_equal(dp_create(&config, &dp), 0);
    for (unsigned i = 0; i < DP_EARLY_SPIS; i++) {
        assert_int_equal(dp_spi_allocate(dp, 0xab000000, &spi), 0);
        assert_int_equal(dp_spi_expect(dp, spi, &peer), 0);
        first = first != 0 ? first : spi;
    }
    assert_int_equal(dp_spi_allocate(dp, 0xab000000, &spi), 0);
    assert_int_equal(dp_spi_expect(dp, spi, &peer), -ENOSPC);
    dp_spi_release(dp, first);
    assert_int_equal(dp_spi_expect(dp, spi, &peer), 0);
    dp_destroy(dp);
}

/* A peer that sends without a break while rekey after rekey is under way, received by either of two workers: nothing is lost. */
static void test_running_loops_lose_nothing(void **state) {
    (void)state;
    enum {
        ROUNDS = 60,
        EACH = 40
    };
    struct pair p = pair_new(2);
    for (uint32_t w = 0; w < 2; w++)
        assert_int_equal(dp_worker_start(p.dp, w), 0);
    uint32_t got = 0, number = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint32_t owner = round % 2;
        if (round != 0) {
            assert_int_equal(dp_spi_allocate_for(p.dp, owner, 0xab000000 + (round << 12), &p.spi), 0);
            struct dp_sa_params out = params_of(&p);
            assert_int_equal(dp_child_switch(p.peer, 0, p.child, plane_install(p.peer, DP_OUTBOUND, &out)), 0);
        }
        expect_from(&p, 4500);
        for (unsigned i = 0; i < EACH; i++, number++) {
            uint8_t data[SEALED_MAX];
            size_t octets = sealed(&p, number, data);
            arrives(&p, owner, 4500, data, octets);
            if (i == EACH / 2) {
                struct dp_sa_params in = params_of(&p);
                in.worker = owner;
                p.in = plane_install(p.dp, DP_INBOUND, &in);
            }
        }
        uint64_t end = dp_boottime() + 20 * SECOND;
        for (uint8_t data[2048]; got < number;) {
            if (dp_mem_tun_pull(p.dp, owner, 0, data, sizeof data) <= 0) {
                assert_true(dp_boottime() < end);
                sched_yield();
                continue;
            }
            assert_memory_equal(data + 40, &got, sizeof got);
            got++;
        }
        assert_int_equal(dp_sa_remove(p.dp, p.in), 0);
        (void)dp_reclaim(p.dp);
    }
    for (uint32_t w = 0; w < 2; w++)
        assert_int_equal(dp_worker_stop(p.dp, w), 0);
    for (unsigned reason = 1; reason < DP_DROP_COUNT; reason++)
        assert_int_equal(dropped(&p, (enum dp_drop)reason), 0);
    pair_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_came_before_the_sa_goes_first_and_in_order),
        cmocka_unit_test(test_nothing_overtakes_what_was_kept),
        cmocka_unit_test(test_what_is_in_no_request_is_an_unknown_spi),
        cmocka_unit_test(test_only_the_peer_of_the_request_is_kept),
        cmocka_unit_test(test_a_request_that_fails_wipes_and_counts),
        cmocka_unit_test(test_a_packet_is_kept_for_two_seconds),
        cmocka_unit_test(test_forged_packets_among_them_cost_no_genuine_one),
        cmocka_unit_test(test_a_flood_costs_its_spi_its_room_and_no_other),
        cmocka_unit_test(test_one_flood_has_a_mebibyte),
        cmocka_unit_test(test_a_floods_memory_goes_back_also_where_all_of_it_is_locked),
        cmocka_unit_test(test_more_requests_than_there_is_room_for_are_refused),
        cmocka_unit_test(test_running_loops_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
