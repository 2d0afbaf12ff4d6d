/* The inner loops of benchmarks and of the replay tests. Nothing here reads a clock: the caller times the call. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "aead.h"
#include "esp_wire.h"
#include "keys.h"
#include "replay.h"

enum {
    ROWS_MAX = 65536,
    OCTETS_MAX = 65536,
    VECTOR = 64, /* rows begin on it */
};

/* `n` rows of `stride` octets: in, out and nonces, which one aligned store wrote long before the cipher loads them. */
struct rows {
    uint8_t *in, *out;
    uint8_t (*iv)[DP_IV_MAX];
    size_t stride, octets, n;
};

static void rows_free(struct rows *rows) {
    free(rows->in);
    free(rows->out);
    free(rows->iv);
}

static int rows_alloc(struct rows *rows, size_t octets, size_t n) {
    *rows = (struct rows){.octets = octets, .n = n};
    rows->stride = (octets + DP_ICV_MAX + VECTOR - 1) / VECTOR * VECTOR;
    rows->in = aligned_alloc(VECTOR, rows->stride * n);
    rows->out = aligned_alloc(VECTOR, rows->stride * n);
    rows->iv = calloc(n, sizeof(*rows->iv));
    if (!rows->in || !rows->out || !rows->iv) {
        rows_free(rows);
        return -ENOMEM;
    }
    memset(rows->in, 0x5a, rows->stride * n);
    memset(rows->out, 0, rows->stride * n);
    for (size_t i = 0; i < n; i++)
        memcpy(rows->iv[i], &i, sizeof(i));
    return 0;
}

/* Every row once, from `src` to `dst`; the ICV stands behind the row of `sealed`. */
static int rows_run(const struct rows *rows, int (*run)(void *, const struct dp_crypt *), void *context, uint8_t *src, uint8_t *dst,
                    uint8_t *sealed) {
    static const uint8_t aad[DP_ESP_HEADER];
    for (size_t i = 0; i < rows->n; i++) {
        size_t row = i * rows->stride;
        struct dp_crypt c = {.iv = rows->iv[i], .aad = aad, .aad_octets = sizeof(aad), .src = src + row, .dst = dst + row};
        c.octets = (uint32_t)rows->octets;
        c.icv = sealed + row + rows->octets;
        int error = run(context, &c);
        if (error != 0)
            return error;
    }
    return 0;
}

static int bench(const struct dp_cipher *cipher, void *context, const struct rows *rows, int open, size_t rounds) {
    static const uint8_t key[DP_KEYMAT_MAX] = {1, 2, 3};
    int error = cipher->init(cipher, context, key, key);
    if (error != 0)
        return error;
    if (open)
        error = rows_run(rows, cipher->seal, context, rows->out, rows->in, rows->in);
    for (size_t round = 0; round < rounds && error == 0; round++)
        error = open ? rows_run(rows, cipher->open, context, rows->in, rows->out, rows->in)
                     : rows_run(rows, cipher->seal, context, rows->in, rows->out, rows->out);
    cipher->finish(context);
    return error;
}

int dp_bench_aead(unsigned provider, unsigned encr, unsigned integ, unsigned key_octets, int open, size_t octets, size_t n,
                  size_t rounds) {
    int error = dp_cipher_load();
    if (error != 0)
        return error;
    const struct dp_cipher *cipher = dp_cipher_find(provider, encr, integ, key_octets);
    if (!cipher)
        return -ENOTSUP;
    if (octets == 0 || octets > OCTETS_MAX || octets % cipher->block_octets != 0 || n == 0 || n > ROWS_MAX)
        return -EINVAL;
    struct rows rows;
    error = rows_alloc(&rows, octets, n);
    if (error != 0)
        return error;
    error = -ENOMEM;
    struct dp_arena *arena = dp_arena_create();
    void *context = arena ? dp_arena_alloc(arena, cipher->context_octets) : NULL;
    if (context)
        error = bench(cipher, context, &rows, open, rounds);
    dp_arena_destroy(arena);
    rows_free(&rows);
    return error;
}

static int all_of(int moved, size_t n) {
    if (moved < 0)
        return moved;
    return (size_t)moved == n ? 0 : -EIO;
}

int dp_bench_seal(struct dp *dp, dp_sa_id outbound, uint8_t *in, const uint32_t *in_octets, size_t in_stride, uint8_t *out,
                  uint32_t *out_octets, size_t out_stride, size_t n, uint8_t *reasons, uint64_t now, size_t rounds) {
    int error = 0;
    for (size_t round = 0; round < rounds && error == 0; round++)
        error = all_of(dp_seal_burst(dp, outbound, in, in_octets, in_stride, out, out_octets, out_stride, n, reasons, now), n);
    return error;
}

int dp_bench_open(struct dp *dp, const uint8_t *in, const uint32_t *in_octets, size_t in_stride, uint8_t *out, uint32_t *out_octets,
                  size_t out_stride, size_t n, uint8_t *reasons, uint64_t now, size_t rounds) {
    int error = 0;
    for (size_t first = 0; first < rounds * n && error == 0; first += n)
        error = all_of(
            dp_open_burst(dp, in + first * in_stride, in_octets + first, in_stride, out, out_octets, out_stride, n, reasons, now),
            n);
    return error;
}

int dp_replay_run(uint32_t window, int esn, const uint32_t *low, size_t n, uint64_t *inferred, uint8_t *verdicts) {
    size_t octets = dp_replay_octets(window);
    if (octets == 0)
        return -EINVAL;
    uint64_t ring[DP_REPLAY_WINDOW_MAX / 64 + 1];
    memset(ring, 0, octets);
    struct dp_replay replay;
    dp_replay_init(&replay, window, ring);
    for (size_t i = 0; i < n; i++) {
        inferred[i] = dp_replay_infer(&replay, low[i], esn != 0);
        enum dp_drop verdict = dp_replay_check(&replay, inferred[i]);
        if (verdict == DP_OK)
            verdict = dp_replay_commit(&replay, inferred[i]);
        verdicts[i] = (uint8_t)verdict;
    }
    return 0;
}
