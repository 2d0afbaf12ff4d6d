/* Any sequence of fragments, with time passing, against what stateful fragment checking promises: nothing is let through before a
 * first fragment but what goes alone, and no octet of a datagram twice. */
#include <stdlib.h>
#include <string.h>

#include "fragment_state.h"

enum {
    IDS = 4,
    STEP = 5,
    UNITS = 64
};

static void require(bool holds) {
    if (!holds)
        abort();
}

static void any_packet(const uint8_t *input, size_t octets) {
    uint8_t *packet = malloc(octets);
    struct dp_inner inner;
    struct dp_fragment f;
    require(packet != NULL);
    memcpy(packet, input, octets);
    if (dp_inner_read(packet, octets, DP_FLOW_INBOUND, &inner) == DP_OK && inner.fragment) {
        dp_fragment_read(packet, &inner, 0, &f);
        require(!f.sound || (f.to > f.from && f.to <= 65535 && f.to - f.from <= octets));
    }
    free(packet);
}

/* What was let through of one datagram. */
struct model {
    uint64_t since;
    uint32_t end; /* 0: the last one has not been seen */
    bool first, there[UNITS];
};

static bool is_whole(const struct model *m) {
    for (uint32_t i = 0; i < m->end; i++)
        if (!m->there[i])
            return false;
    return m->end != 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t octets) {
    static struct dp_fragment_states *states;
    struct model model[IDS] = {0};
    static uint64_t now;
    if (octets == 0)
        return 0;
    any_packet(input, octets);
    if (states == NULL)
        states = dp_fragment_states_new(7);
    now += 2 * DP_FRAGMENT_NS; /* nothing is left of the run before */
    for (; octets >= STEP; input += STEP, octets -= STEP) {
        struct model *m = &model[input[0] % IDS];
        uint32_t from = input[1] % UNITS, to = from + 1 + input[2] % (UNITS - from);
        bool more = input[3] & 1, alone = input[3] & 2;
        now += (uint64_t)input[4] * (DP_FRAGMENT_NS / 512);
        struct dp_fragment f = {.flow = {.family = 4, .protocol = 17},
                                .id = input[0] % IDS,
                                .from = from * 8,
                                .to = to * 8,
                                .more = more,
                                .sound = true};
        if (now - m->since >= DP_FRAGMENT_NS)
            *m = (struct model){.first = false};
        enum dp_drop reason = from == 0 ? dp_fragment_first(states, &f, now)
                              : alone   ? dp_fragment_alone(states, &f, now)
                                        : dp_fragment_later(states, &f, now);
        if (reason != DP_OK)
            continue;
        require(from == 0 || alone || m->first);
        if (m->since == 0 || is_whole(m)) /* the one before it was whole, or too old */
            *m = (struct model){.since = now};
        m->first = m->first || from == 0;
        m->end = more ? m->end : to;
        for (uint32_t i = from; i < to; i++) {
            require(!m->there[i]);
            m->there[i] = true;
        }
    }
    return 0;
}
