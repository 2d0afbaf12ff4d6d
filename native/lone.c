/* One SA by itself, for rigs: what the loops do with a key (esp.h, replay.h), and nothing around it. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "esp.h"
#include "keyed.h"
#include "keys.h"
#include "octets.h"
#include "replay.h"

enum {
    TFC_MAX = 9000,
    ALIVE = 64, /* the smallest block of the arena */
};

struct dp_lone_keys {
    pthread_mutex_t lock; /* of the arena and of `users` */
    struct dp_arena *arena;
    size_t users; /* whoever made it, and its SAs */
    unsigned provider;
};

struct dp_lone {
    _Alignas(64) struct dp_esp esp;
    uint64_t sequence, sequence_last;
    struct dp_replay replay;
    atomic_bool busy;
    uint8_t *alive; /* beside the key: 0 in a process that was forked since, where the key is gone too */
    struct dp_lone_keys *keys;
    uint64_t ring[];
};

/* ---- keys */

int dp_lone_keys_new(unsigned provider, struct dp_lone_keys **out) {
    int error = dp_cipher_load();
    if (error != 0)
        return error;
    if (dp_cipher_find(provider, DP_ENCR_AES_GCM_16, DP_INTEG_NONE, 16) == NULL)
        return -ENOTSUP;
    struct dp_lone_keys *keys = calloc(1, sizeof *keys);
    if (keys == NULL)
        return -ENOMEM;
    *keys = (struct dp_lone_keys){.provider = provider, .users = 1, .arena = dp_arena_create()};
    pthread_mutex_init(&keys->lock, NULL);
    if (keys->arena == NULL) {
        dp_lone_keys_free(keys);
        return -ENOMEM;
    }
    *out = keys;
    return 0;
}

void dp_lone_keys_free(struct dp_lone_keys *keys) {
    pthread_mutex_lock(&keys->lock);
    bool last = --keys->users == 0;
    pthread_mutex_unlock(&keys->lock);
    if (!last)
        return;
    dp_arena_destroy(keys->arena);
    pthread_mutex_destroy(&keys->lock);
    free(keys);
}

void dp_lone_keys_read(struct dp_lone_keys *keys, struct dp_arena_info *info) {
    pthread_mutex_lock(&keys->lock);
    dp_arena_info(keys->arena, info);
    pthread_mutex_unlock(&keys->lock);
}

/* ---- one SA */

static void leave(struct dp_lone *lone) {
    atomic_store_explicit(&lone->busy, false, memory_order_release);
}

/* Nobody else uses it until `leave`. */
/* The key, and what says that it is there. Under the lock. */
static int key(struct dp_lone *lone, const struct dp_lone_params *p, const uint8_t *keymat, size_t octets) {
    struct dp_lone_keys *keys = lone->keys;
    lone->alive = dp_arena_alloc(keys->arena, ALIVE);
    if (lone->alive == NULL)
        return -ENOMEM;
    int error = dp_keyed_new(keys->arena, keys->provider, p->encr, p->integ, p->key_octets, keymat, octets, &lone->esp.cipher,
                             &lone->esp.context, lone->esp.salt);
    if (error != 0) {
        dp_arena_free(keys->arena, lone->alive, ALIVE);
        return error;
    }
    *lone->alive = 1;
    keys->users++;
    return 0;
}

int dp_lone_new(struct dp_lone_keys *keys, const struct dp_lone_params *p, const uint8_t *keymat, size_t octets,
                struct dp_lone **out) {
    size_t ring_octets = dp_replay_octets(p->replay_window);
    uint64_t last = p->esn ? UINT64_MAX : UINT32_MAX;
    if (ring_octets == 0 || p->spi == 0 || p->tfc_octets > TFC_MAX || p->sequence > last)
        return -EINVAL;
    size_t size = (sizeof(struct dp_lone) + ring_octets + 63) & ~(size_t)63;
    struct dp_lone *lone = aligned_alloc(64, size);
    if (lone == NULL)
        return -ENOMEM;
    memset(lone, 0, size);
    *lone = (struct dp_lone){.sequence = p->sequence, .sequence_last = last, .keys = keys};
    lone->esp = (struct dp_esp){.spi = p->spi, .esn = p->esn != 0, .tfc_octets = p->tfc_octets};
    dp_replay_init(&lone->replay, p->replay_window, lone->ring);
    pthread_mutex_lock(&keys->lock);
    int error = key(lone, p, keymat, octets);
    pthread_mutex_unlock(&keys->lock);
    if (error != 0) {
        free(lone);
        return error;
    }
    lone->esp.seeded = p->seeded && lone->esp.cipher->random_iv;
    lone->esp.iv = lone->esp.seeded ? p->seed : p->iv;
    *out = lone;
    return 0;
}

static int take(struct dp_lone *lone) {
    if (atomic_exchange_explicit(&lone->busy, true, memory_order_acquire))
        return -EBUSY;
    int error = lone->esp.context == NULL ? -EBADF : *lone->alive == 0 ? -ENOKEY : 0;
    if (error != 0)
        leave(lone);
    return error;
}

int dp_lone_close(struct dp_lone *lone) {
    int error = take(lone);
    if (error != 0) /* without a key there is nothing to wipe */
        return error == -EBUSY ? error : 0;
    struct dp_arena *arena = lone->keys->arena;
    pthread_mutex_lock(&lone->keys->lock);
    dp_keyed_free(arena, lone->esp.cipher, lone->esp.context);
    dp_arena_free(arena, lone->alive, ALIVE);
    pthread_mutex_unlock(&lone->keys->lock);
    lone->esp.context = NULL;
    explicit_bzero(lone->esp.salt, sizeof lone->esp.salt);
    leave(lone);
    return 0;
}

void dp_lone_free(struct dp_lone *lone) {
    (void)dp_lone_close(lone);
    dp_lone_keys_free(lone->keys);
    free(lone);
}

void dp_lone_read(const struct dp_lone *lone, struct dp_lone_state *state) {
    const struct dp_cipher *cipher = lone->esp.cipher;
    *state = (struct dp_lone_state){
        .sequence = lone->sequence,
        .highest = lone->replay.highest,
        .octets = sizeof *lone + dp_replay_octets(lone->replay.window),
        .key_octets = cipher->context_octets + ALIVE,
        .alignment = (uint32_t)dp_esp_alignment(&lone->esp),
        .packet_octets = DP_ESP_HEADER + (uint32_t)cipher->iv_octets + cipher->icv_octets,
    };
}

int dp_lone_set_sequence(struct dp_lone *lone, uint64_t sequence) {
    if (sequence > lone->sequence_last)
        return -EINVAL;
    lone->sequence = sequence;
    return 0;
}

int dp_lone_set_highest(struct dp_lone *lone, uint64_t highest) {
    if (highest > lone->sequence_last)
        return -EINVAL;
    memset(lone->ring, 0, dp_replay_octets(lone->replay.window));
    dp_replay_init(&lone->replay, lone->replay.window, lone->ring);
    if (highest != 0)
        (void)dp_replay_commit(&lone->replay, highest);
    return 0;
}

/* ---- bursts */

/* The next header and the length of an IP packet, of which `octets` are at hand. No selector is asked here, so no more of it is
 * read (inner.h). */
static enum dp_drop read_inner(const uint8_t *packet, size_t octets, uint8_t *next_header, uint32_t *length) {
    if (octets == 0)
        return DP_DROP_inner_length;
    uint32_t least;
    switch (packet[0] >> 4) {
    case 4:
        if (octets < DP_IPV4_HEADER_MIN)
            return DP_DROP_inner_length;
        least = (packet[0] & 15u) * 4;
        least = least < DP_IPV4_HEADER_MIN ? UINT32_MAX : least;
        *length = dp_read_16(packet + 2);
        *next_header = DP_NH_IPV4;
        break;
    case 6:
        if (octets < DP_IPV6_HEADER)
            return DP_DROP_inner_length;
        least = DP_IPV6_HEADER;
        *length = least + dp_read_16(packet + 4);
        *next_header = DP_NH_IPV6;
        break;
    default:
        return DP_DROP_inner_version;
    }
    return *length < least || *length > octets ? DP_DROP_inner_length : DP_OK;
}

/* One row to be sealed. */
struct row {
    uint8_t *in;
    size_t octets, stride;
    uint8_t *out;
    size_t room;
    uint64_t *sequence;
    uint8_t next_header;
    unsigned how;
};

/* The row's sequence number: the one given, or the SA's next. */
static bool number(struct dp_lone *lone, const struct row *row) {
    if ((row->how & DP_LONE_NUMBERED) != 0)
        return *row->sequence <= lone->sequence_last;
    if (lone->sequence == lone->sequence_last) /* RFC 4303 §3.3.3: never cycles */
        return false;
    *row->sequence = ++lone->sequence;
    return true;
}

static enum dp_drop seal_whole(struct dp_lone *lone, const struct row *row, uint32_t *sealed) {
    const struct dp_cipher *cipher = lone->esp.cipher;
    size_t octets = DP_ESP_HEADER + cipher->iv_octets + row->octets + cipher->icv_octets;
    if (row->octets == 0 || row->octets % dp_esp_alignment(&lone->esp) != 0)
        return DP_DROP_esp_length;
    if (octets > row->room)
        return DP_DROP_too_big;
    if (!number(lone, row))
        return DP_DROP_sequence_exhausted;
    *sealed = (uint32_t)octets;
    return dp_esp_seal_whole(&lone->esp, *row->sequence, row->in, row->octets, row->out);
}

static enum dp_drop seal_inner(struct dp_lone *lone, const struct row *row, uint32_t *sealed) {
    const struct dp_cipher *cipher = lone->esp.cipher;
    size_t octets = dp_esp_sealed_octets(&lone->esp, row->octets);
    size_t padded = (row->octets < lone->esp.tfc_octets ? lone->esp.tfc_octets : row->octets) + DP_ESP_TAILROOM;
    size_t before = DP_ESP_HEADER + cipher->iv_octets;
    bool there = (row->how & DP_LONE_KEEP) == 0 && padded <= row->stride;
    if (octets > row->room || (!there && before + padded > row->room))
        return DP_DROP_too_big;
    if (!number(lone, row))
        return DP_DROP_sequence_exhausted;
    uint8_t *inner = there ? row->in : memcpy(row->out + before, row->in, row->octets);
    *sealed = (uint32_t)octets;
    return dp_esp_seal(&lone->esp, *row->sequence, inner, row->octets, row->next_header, row->out);
}

static enum dp_drop seal_row(struct dp_lone *lone, struct row *row, int next_header, uint32_t *sealed) {
    if (row->octets > row->stride)
        return DP_DROP_too_big;
    if ((row->how & DP_LONE_RAW) != 0)
        return seal_whole(lone, row, sealed);
    row->next_header = (uint8_t)next_header;
    if (next_header < 0) {
        uint32_t length;
        enum dp_drop reason = read_inner(row->in, row->octets, &row->next_header, &length);
        if (reason != DP_OK)
            return reason;
        row->octets = length;
    }
    return seal_inner(lone, row, sealed);
}

int dp_lone_seal(struct dp_lone *lone, uint8_t *in, const uint32_t *in_octets, size_t in_stride, uint8_t *out, uint32_t *out_octets,
                 size_t out_stride, size_t n, uint8_t *reasons, uint64_t *sequences, int next_header, unsigned how) {
    int sealed = take(lone);
    if (sealed != 0)
        return sealed;
    for (size_t i = 0; i < n; i++) {
        struct row row = {.in = in + i * in_stride,
                          .octets = in_octets[i],
                          .stride = in_stride,
                          .out = out + i * out_stride,
                          .room = out_stride,
                          .sequence = &sequences[i],
                          .how = how};
        uint32_t octets = 0;
        enum dp_drop reason = seal_row(lone, &row, next_header, &octets);
        reasons[i] = (uint8_t)reason;
        out_octets[i] = reason == DP_OK ? octets : 0;
        sealed += reason == DP_OK;
    }
    leave(lone);
    return sealed;
}

/* What tunnel mode asks of what was opened (RFC 4303 §3.4.4.1); TFC padding goes. */
static enum dp_drop check_inner(const uint8_t *plain, struct dp_esp_opened *opened) {
    if (opened->next_header == DP_NH_DUMMY)
        return DP_DROP_dummy;
    if (opened->next_header != DP_NH_IPV4 && opened->next_header != DP_NH_IPV6)
        return DP_DROP_next_header;
    uint8_t next_header;
    uint32_t length;
    enum dp_drop reason = read_inner(plain, opened->octets, &next_header, &length);
    if (reason != DP_OK)
        return reason;
    if (next_header != opened->next_header)
        return DP_DROP_inner_version;
    opened->octets = length;
    return DP_OK;
}

static enum dp_drop open_row(struct dp_lone *lone, const uint8_t *packet, size_t octets, uint8_t *plain, uint64_t *sequence,
                             struct dp_esp_opened *opened, unsigned how) {
    if (octets < DP_ESP_HEADER)
        return DP_DROP_runt;
    if (dp_read_32(packet) != lone->esp.spi)
        return DP_DROP_unknown_spi;
    *sequence = dp_replay_infer(&lone->replay, dp_read_32(packet + 4), lone->esp.esn);
    enum dp_drop reason = dp_replay_check(&lone->replay, *sequence);
    if (reason != DP_OK)
        return reason;
    reason = dp_esp_open(&lone->esp, *sequence, packet, octets, plain, opened);
    bool authentic = reason == DP_OK || reason == DP_DROP_pad;
    if (authentic && (how & DP_LONE_LOOK) == 0)
        (void)dp_replay_commit(&lone->replay, *sequence);
    if (reason != DP_OK || (how & DP_LONE_RAW) != 0)
        return reason;
    return check_inner(plain, opened);
}

int dp_lone_open(struct dp_lone *lone, const uint8_t *in, const uint32_t *in_octets, size_t in_stride, uint8_t *out,
                 uint32_t *out_octets, size_t out_stride, size_t n, uint8_t *reasons, uint64_t *sequences, uint8_t *next_headers,
                 unsigned how) {
    int result = take(lone);
    if (result != 0)
        return result;
    for (size_t i = 0; i < n; i++) {
        struct dp_esp_opened opened = {0};
        uint64_t sequence = 0;
        enum dp_drop reason = DP_DROP_too_big;
        if (in_octets[i] <= in_stride && in_octets[i] <= out_stride)
            reason = open_row(lone, in + i * in_stride, in_octets[i], out + i * out_stride, &sequence, &opened, how);
        bool good = reason == DP_OK;
        reasons[i] = (uint8_t)reason;
        out_octets[i] = good ? opened.octets : 0;
        sequences[i] = good ? sequence : 0;
        next_headers[i] = good ? opened.next_header : 0;
        result += good;
    }
    leave(lone);
    return result;
}
