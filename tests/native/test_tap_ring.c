/* The ring of captured blocks: one thread writes, another reads, and what finds no room is not there at all. */
#include <pthread.h>
#include <string.h>

#include "tap_ring.h"
#include "unit.h"

enum {
    ROOM = 4096,
    BLOCKS = 200000,
};

static uint32_t length_of(uint32_t number) {
    return 16 + number % 64 * 4;
}

/* A block as pcapng has it, as far as the ring looks: type, length, and then `number` up to its end. */
static bool put(struct dp_tap_ring *ring, uint32_t number) {
    uint32_t words[80], octets = length_of(number);
    uint8_t *at = dp_tap_ring_reserve(ring, octets);
    if (at == NULL)
        return false;
    for (uint32_t i = 0; i < octets / 4; i++)
        words[i] = number;
    words[0] = 6;
    words[1] = octets;
    memcpy(at, words, octets);
    dp_tap_ring_publish(ring, octets);
    return true;
}

/* The number of the oldest block, which is whole; UINT32_MAX: there is none. */
static uint32_t get(struct dp_tap_ring *ring) {
    uint32_t words[80], octets;
    const uint8_t *block = dp_tap_ring_oldest(ring, &octets);
    if (block == NULL)
        return UINT32_MAX;
    memcpy(words, block, octets);
    assert_int_equal(octets, length_of(words[2]));
    for (uint32_t i = 2; i < octets / 4; i++)
        assert_int_equal(words[i], words[2]);
    dp_tap_ring_take(ring, octets);
    return words[2];
}

static void test_blocks_come_out_as_they_went_in_wherever_the_ring_ends(void **state) {
    (void)state;
    struct dp_tap_ring ring = {0};
    assert_int_equal(dp_tap_ring_open(&ring, ROOM), 0);
    for (uint32_t number = 0; number < 1000; number++) {
        assert_true(put(&ring, number));
        assert_int_equal(get(&ring), number);
        assert_int_equal(get(&ring), UINT32_MAX);
    }
    dp_tap_ring_close(&ring);
}

static void test_a_full_ring_takes_nothing_and_loses_nothing(void **state) {
    (void)state;
    struct dp_tap_ring ring = {0};
    uint32_t in = 0;
    assert_int_equal(dp_tap_ring_open(&ring, ROOM), 0);
    while (in < ROOM && put(&ring, in))
        in++;
    assert_in_range(in, 20, ROOM / 16);
    for (uint32_t number = 0; number < in; number++)
        assert_int_equal(get(&ring), number);
    assert_int_equal(get(&ring), UINT32_MAX);
    assert_true(put(&ring, in));
    dp_tap_ring_close(&ring);
}

static void *write_all(void *argument) {
    for (uint32_t number = 0; number < BLOCKS;)
        number += put(argument, number);
    return NULL;
}

static void test_two_threads_at_once(void **state) {
    (void)state;
    struct dp_tap_ring ring = {0};
    pthread_t writer;
    assert_int_equal(dp_tap_ring_open(&ring, ROOM), 0);
    assert_int_equal(pthread_create(&writer, NULL, write_all, &ring), 0);
    for (uint32_t number = 0; number < BLOCKS;) {
        uint32_t found = get(&ring);
        if (found != UINT32_MAX)
            assert_int_equal(found, number++);
    }
    pthread_join(writer, NULL);
    assert_int_equal(get(&ring), UINT32_MAX);
    dp_tap_ring_close(&ring);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_come_out_as_they_went_in_wherever_the_ring_ends),
        cmocka_unit_test(test_a_full_ring_takes_nothing_and_loses_nothing),
        cmocka_unit_test(test_two_threads_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
