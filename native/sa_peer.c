#include "sa_peer.h"

#include <string.h>

/* The words are released after the odd version, so whoever reads a new word sees that version, or a later one, afterwards. */
void dp_sa_set_peer(struct dp_sa *sa, const struct dp_addr *peer) {
    sa->peer = *peer;
    uint64_t words[3];
    memcpy(words, peer, sizeof words);
    uint32_t version = atomic_load_explicit(&sa->peer_version, memory_order_relaxed);
    atomic_store_explicit(&sa->peer_version, version + 1, memory_order_relaxed);
    for (int i = 0; i < 3; i++)
        atomic_store_explicit(&sa->peer_words[i], words[i], memory_order_release);
    atomic_store_explicit(&sa->peer_version, version + 2, memory_order_release);
}

void dp_sa_get_peer(const struct dp_sa *sa, struct dp_addr *peer) {
    uint64_t words[3];
    uint32_t before, after;
    do {
        before = atomic_load_explicit(&sa->peer_version, memory_order_acquire);
        for (int i = 0; i < 3; i++)
            words[i] = atomic_load_explicit(&sa->peer_words[i], memory_order_acquire);
        after = atomic_load_explicit(&sa->peer_version, memory_order_relaxed);
    } while (before != after || (before & 1) != 0);
    memcpy(peer, words, sizeof *peer);
}
