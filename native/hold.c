#include "hold.h"

#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "examples.h"

struct held_burst {
    struct held_burst *next;
    uint32_t tunnel;
    struct dp_burst burst; /* `now` is when it was first held */
    uint8_t data[];
};

struct dp_hold {
    struct held_burst *oldest, *newest;
    size_t octets;
    uint32_t limit; /* octets of one tunnel */
    uint32_t tunnel_octets[];
};

struct dp_hold *dp_hold_new(uint32_t tunnels, uint32_t octets) {
    struct dp_hold *hold = calloc(1, sizeof *hold + tunnels * sizeof hold->tunnel_octets[0]);
    if (hold != NULL)
        hold->limit = octets;
    return hold;
}

static struct held_burst *take_all(struct dp_hold *hold) {
    struct held_burst *list = hold->oldest;
    hold->oldest = hold->newest = NULL;
    hold->octets = 0;
    for (const struct held_burst *h = list; h != NULL; h = h->next)
        hold->tunnel_octets[h->tunnel] = 0;
    return list;
}

void dp_hold_free(struct dp_hold *hold) {
    if (hold == NULL)
        return;
    for (struct held_burst *h = take_all(hold), *next; h != NULL; h = next) {
        next = h->next;
        free(h);
    }
    free(hold);
}

static bool expired(uint64_t since, uint64_t now) {
    return now - since >= DP_HOLD_NS;
}

static void drop_expired(struct dp_hold *hold, struct dp_loop *loop, uint64_t now) {
    while (hold->oldest != NULL && expired(hold->oldest->burst.now, now)) {
        struct held_burst *h = hold->oldest;
        hold->oldest = h->next;
        if (hold->oldest == NULL)
            hold->newest = NULL;
        hold->octets -= h->burst.octets;
        hold->tunnel_octets[h->tunnel] -= h->burst.octets;
        dp_drop_burst(loop, DP_DROP_no_sa, &h->burst, now);
        free(h);
    }
}

bool dp_hold_put(struct dp_hold *hold, struct dp_loop *loop, uint32_t tunnel, const struct dp_burst *b, uint64_t now) {
    uint64_t since = b->now != 0 ? b->now : now;
    drop_expired(hold, loop, now);
    if (expired(since, now) || hold->octets + b->octets > (size_t)hold->limit * DP_HOLD_TUNNELS ||
        hold->tunnel_octets[tunnel] + b->octets > hold->limit)
        return false;
    struct held_burst *h = malloc(sizeof *h + b->octets + DP_ESP_TAILROOM);
    if (h == NULL)
        return false;
    *h = (struct held_burst){.tunnel = tunnel, .burst = *b};
    h->burst.data = h->data;
    h->burst.now = since;
    memcpy(h->data, b->data, b->octets);
    if (hold->newest != NULL)
        hold->newest->next = h;
    else
        hold->oldest = h;
    hold->newest = h;
    hold->octets += b->octets;
    hold->tunnel_octets[tunnel] += b->octets;
    return true;
}

bool dp_hold_waits(const struct dp_hold *hold, uint32_t tunnel) {
    return hold->tunnel_octets[tunnel] != 0;
}

void dp_hold_show(const struct dp_hold *hold, void (*show)(void *to, uint32_t tunnel, const struct dp_burst *b), void *to) {
    for (const struct held_burst *h = hold->oldest; h != NULL; h = h->next)
        show(to, h->tunnel, &h->burst);
}

void dp_hold_release(struct dp_hold *hold, struct dp_loop *loop, uint64_t now,
                     enum dp_drop (*again)(struct dp_loop *loop, struct dp_burst *b, uint64_t now)) {
    for (struct held_burst *h = take_all(hold), *next; h != NULL; h = next) {
        next = h->next;
        enum dp_drop reason = expired(h->burst.now, now) ? DP_DROP_no_sa : again(loop, &h->burst, now);
        if (reason != DP_OK)
            dp_drop_burst(loop, reason, &h->burst, now);
        free(h);
    }
}
