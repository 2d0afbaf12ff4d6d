/* Anti-replay (RFC 4303 §3.4.3 and Appendix A): one window, one decision.
 *
 * The ring has one 64-bit word more than the window needs, so that advancing clears whole words and the window itself stays exact.
 * Sequence numbers are 64 bits wide; without ESN the high half is 0. One writer: the loop that owns the SA. */
#ifndef DP_REPLAY_H
#define DP_REPLAY_H

#include <stdatomic.h>
#include <stdbool.h>

#include "dp.h"

enum {
    DP_REPLAY_WINDOW_MIN = 64,
    DP_REPLAY_WINDOW_MAX = 8192
};

struct dp_replay {
    uint64_t highest; /* highest sequence number committed; 0: none yet */
    uint32_t window;  /* packets, a power of two */
    uint32_t words;   /* in the ring: window / 64 + 1 */
    uint32_t top;     /* index of the word that holds `highest` */
    uint64_t *ring;
    _Atomic uint64_t limit; /* nothing above it is taken; written by the control thread. UINT64_MAX: none */
};

/* Octets of ring for a window; 0: not a power of two in 64..8192. */
size_t dp_replay_octets(uint32_t window);
/* `ring` is zeroed, of dp_replay_octets(window) octets. */
void dp_replay_init(struct dp_replay *r, uint32_t window, uint64_t *ring);
/* The 64-bit sequence number that the low 32 bits of a packet stand for (Appendix A2: cases A and B). Without ESN: `low` itself. */
uint64_t dp_replay_infer(const struct dp_replay *r, uint32_t low, bool esn);
/* Whether the packet may be new: DP_OK, DP_DROP_replay, DP_DROP_too_old, DP_DROP_unpublished. Changes nothing. Sequence number 0 is
 * DP_DROP_replay: no sender uses it (RFC 4303 §3.3.3). */
enum dp_drop dp_replay_check(const struct dp_replay *r, uint64_t sequence);
/* The same decision again, then the window takes the number. Only after the ICV held. */
enum dp_drop dp_replay_commit(struct dp_replay *r, uint64_t sequence);
/* The window as `r->words` words, the newest first: bit b of word k is the number (highest / 64 - k) * 64 + b. */
void dp_replay_save(const struct dp_replay *r, uint64_t *words);
/* Goes on from such a window of whatever size: numbers of which it says nothing count as received. `count` 0: all up to
 * `highest`. */
void dp_replay_load(struct dp_replay *r, uint64_t highest, const uint64_t *words, uint32_t count);

#endif
