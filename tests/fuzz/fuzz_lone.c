/* libFuzzer: what an SA by itself makes of rows that claim to hold an inner packet, and of right ICVs around any plaintext.
 *
 *   octet 0      suite
 *   octet 1      how it is sealed (DP_LONE_KEEP in the low bit), room that the row lacks or has too much, CRAFTED in the high bit
 *   then         the inner packet and whatever follows it in its row; CRAFTED: the plaintext, trailer included
 *
 * Rows end where their allocation ends, so that AddressSanitizer sees any octet beyond them. */
#include <stdlib.h>
#include <string.h>

#include "../native/esp_sa.h"

enum {
    MOST = 2000,
    CRAFTED = 0x80,
    SEQUENCE = 7,
};

static void require(bool condition) {
    if (!condition)
        abort();
}

static struct dp_lone_keys *keys;
static struct dp_lone *lones[SUITES];

static void finish(void) {
    for (size_t i = 0; i < SUITES; i++)
        if (lones[i] != NULL)
            dp_lone_free(lones[i]);
    dp_lone_keys_free(keys);
}

/* One for each suite. */
static struct dp_lone *lone_for(uint8_t choice) {
    static const uint8_t keymat[DP_KEYMAT_MAX + DP_AEAD_SALT] = {1, 2, 3, 5, 8, 13, 21};
    size_t at = choice % SUITES;
    if (keys == NULL)
        require(dp_lone_keys_new(DP_PROVIDER_AUTO, &keys) == 0 && atexit(finish) == 0);
    if (lones[at] == NULL) {
        const struct suite *s = &suites[at];
        const struct dp_cipher *c = dp_cipher_find(DP_PROVIDER_AUTO, s->encr, s->integ, s->key_octets);
        struct dp_lone_params p = {
            .spi = 0x1234, .encr = s->encr, .integ = s->integ, .key_octets = s->key_octets, .replay_window = 64};
        size_t octets = (size_t)c->key_octets + c->salt_octets + c->integ_key_octets;
        require(dp_lone_new(keys, &p, keymat, octets, &lones[at]) == 0);
    }
    require(dp_lone_set_highest(lones[at], 0) == 0);
    return lones[at];
}

/* What the header says, read once more: its next header and length, or why not. */
static enum dp_drop expected(const uint8_t *packet, size_t octets, uint8_t *next_header, size_t *length) {
    if (octets == 0)
        return DP_DROP_inner_length;
    unsigned version = packet[0] >> 4;
    if (version != 4 && version != 6)
        return DP_DROP_inner_version;
    size_t header = version == 4 ? 20 : 40;
    if (octets < header)
        return DP_DROP_inner_length;
    size_t claimed = (size_t)packet[version == 4 ? 2 : 4] << 8 | packet[version == 4 ? 3 : 5];
    *next_header = version == 4 ? 4 : 41;
    *length = version == 4 ? claimed : claimed + header;
    size_t ihl = version == 4 ? (packet[0] & 15u) * 4u : header;
    return ihl < header || *length < ihl || *length > octets ? DP_DROP_inner_length : DP_OK;
}

struct opened {
    enum dp_drop reason;
    uint32_t octets;
    uint8_t next_header;
    uint8_t *plain;
};

static struct opened opened_of(struct dp_lone *lone, const uint8_t *packet, uint32_t octets) {
    struct opened got = {.plain = malloc(octets)};
    uint8_t reason = 0;
    uint64_t sequence = 0;
    require(got.plain != NULL);
    int count =
        dp_lone_open(lone, packet, &octets, octets, got.plain, &got.octets, octets, 1, &reason, &sequence, &got.next_header, 0);
    got.reason = (enum dp_drop)reason;
    require(count == (got.reason == DP_OK) && sequence == (got.reason == DP_OK ? SEQUENCE : 0));
    return got;
}

static uint32_t seal(struct dp_lone *lone, uint8_t *in, size_t octets, uint8_t *out, size_t room, unsigned how, uint8_t *reason) {
    uint32_t in_octets = (uint32_t)octets, out_octets = 0;
    uint64_t sequence = SEQUENCE;
    int count =
        dp_lone_seal(lone, in, &in_octets, octets, out, &out_octets, room, 1, reason, &sequence, -1, how | DP_LONE_NUMBERED);
    require(count == (*reason == DP_OK) && out_octets <= room);
    return out_octets;
}

static void run_inner(struct dp_lone *lone, uint8_t *in, size_t octets, uint8_t *out, size_t room, unsigned how) {
    uint8_t next_header = 0, reason = 0;
    size_t length = 0;
    enum dp_drop wanted = expected(in, octets, &next_header, &length);
    uint8_t *before = malloc(octets + 1);
    require(before != NULL);
    memcpy(before, in, octets);
    uint32_t sealed = seal(lone, in, octets, out, room, how, &reason);
    require(reason == wanted || (wanted == DP_OK && reason == DP_DROP_too_big));
    require(memcmp(before, in, (how & DP_LONE_KEEP) != 0 || reason != DP_OK ? octets : length) == 0);
    if (reason == DP_OK) {
        struct opened got = opened_of(lone, out, sealed);
        require(got.reason == DP_OK && got.octets == length && got.next_header == next_header);
        require(memcmp(got.plain, before, length) == 0);
        free(got.plain);
    }
    free(before);
}

/* RFC 4303 §2.4 to §2.6 and the inner header. */
static enum dp_drop expected_of(const uint8_t *plain, size_t octets, size_t *length) {
    size_t pad = plain[octets - 2];
    if (pad + 2 > octets)
        return DP_DROP_pad;
    size_t left = octets - 2 - pad;
    for (size_t i = 0; i < pad; i++)
        if (plain[left + i] != i + 1)
            return DP_DROP_pad;
    uint8_t last = plain[octets - 1], next_header = 0;
    if (last == 59)
        return DP_DROP_dummy;
    if (last != 4 && last != 41)
        return DP_DROP_next_header;
    enum dp_drop reason = expected(plain, left, &next_header, length);
    return reason == DP_OK && next_header != last ? DP_DROP_inner_version : reason;
}

static void run_crafted(struct dp_lone *lone, uint8_t *in, size_t octets, uint8_t *out, size_t room) {
    struct dp_lone_state state;
    dp_lone_read(lone, &state);
    octets -= octets % state.alignment;
    if (octets == 0)
        return;
    uint8_t reason = 0;
    uint32_t sealed = seal(lone, in, octets, out, room, DP_LONE_RAW | DP_LONE_KEEP, &reason);
    if (reason == DP_DROP_too_big)
        return;
    require(reason == DP_OK && sealed == octets + state.packet_octets);
    size_t length = 0;
    enum dp_drop wanted = expected_of(in, octets, &length);
    struct opened got = opened_of(lone, out, sealed);
    require(got.reason == wanted);
    require(wanted != DP_OK || (got.octets == length && memcmp(got.plain, in, length) == 0));
    dp_lone_read(lone, &state);
    require(state.highest == SEQUENCE); /* the ICV was right */
    free(got.plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > MOST)
        return -1;
    size_t octets = size - 2, room = octets + DP_ESP_TAILROOM + 64 - (data[1] >> 1 & 0x3f);
    struct dp_lone *lone = lone_for(data[0]);
    uint8_t *in = malloc(octets), *out = malloc(room);
    require((in != NULL || octets == 0) && out != NULL);
    if (octets > 0)
        memcpy(in, data + 2, octets);
    if ((data[1] & CRAFTED) != 0)
        run_crafted(lone, in, octets, out, room);
    else if (octets > 0)
        run_inner(lone, in, octets, out, room, (data[1] & 1) != 0 ? DP_LONE_KEEP : 0);
    free(in);
    free(out);
    return 0;
}
