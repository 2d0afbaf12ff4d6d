/* Bursts on their way from the worker that received them to the one that owns their SA.
 *
 * An SA has one writer of its sequence number or window, so a packet that arrives at another worker is handed over: copied into a
 * ring of which that worker is the one producer and the owner's loop of the same direction the one consumer. The rings are bounded:
 * what finds no room is dropped and counted (handover_full). Whatever takes this way keeps its order, and packets of one flow
 * always take the same way (docs/design.md, Workers). With one worker there is no ring and nothing of this costs anything. */
#ifndef DP_HANDOVER_H
#define DP_HANDOVER_H

#include "io.h"

struct dp;
struct dp_loop;
struct dp_ring;

/* A ring of `octets` (a power of two, ≥ 2 * DP_PACKET_ROOM). NULL: no memory. One thread pushes, one peeks and releases. */
struct dp_ring *dp_ring_new(size_t octets);
void dp_ring_free(struct dp_ring *ring);
/* Copies the burst and its data (DP_IP_MAX octets at the most). false: there is no room now. */
bool dp_ring_push(struct dp_ring *ring, const struct dp_burst *b);
/* The next burst that was not peeked at yet, the consumer's to write to, with DP_ESP_TAILROOM octets behind its data; NULL: none.
 */
struct dp_burst *dp_ring_peek(struct dp_ring *ring);
/* Gives the room of everything peeked at back to the producer. */
void dp_ring_release(struct dp_ring *ring);
/* Whether peek would find something. By the consumer. */
bool dp_ring_waiting(struct dp_ring *ring);

/* Rings between all workers' loops of one direction; nothing with one worker. 0 or -ENOMEM. */
int dp_handover_open(struct dp *dp, struct dp_loop *loop);
void dp_handover_close(struct dp *dp, struct dp_loop *loop);
/* Octets of the rings from which a loop takes. */
size_t dp_handover_octets(const struct dp_loop *loop);

/* Gives a burst to the loop of the same direction of worker `owner`, which dp_handover_wake then wakes. */
enum dp_drop dp_hand_over(struct dp_loop *loop, uint32_t owner, const struct dp_burst *b);
/* Wakes those that were handed something since the last call and sleep. */
void dp_handover_wake(struct dp_loop *loop);

/* Lets `take` have what others handed over, producer by producer, each in its order, until `budget` packets have moved; `finish`
 * lets go of what `take` kept. How many packets moved. */
int dp_handover_take(struct dp_loop *loop, uint32_t budget, uint64_t now,
                     int (*take)(struct dp_loop *loop, struct dp_burst *b, uint64_t now),
                     void (*finish)(struct dp_loop *loop, uint64_t now));
/* Whether nothing is on its way that this loop handed to worker `by`, another one's, or that `by` handed on to worker `next`: it is
 * sent, unless it waits there for an SA (hold.h). What they get from others counts too, so this may be false for long. */
bool dp_handover_passed(const struct dp_loop *loop, uint32_t by, uint32_t next);
/* Whether there is anything to take. */
bool dp_handover_waiting(const struct dp_loop *loop);
/* Whether nothing is on its way between any two loops: what was handed over was taken, and what became of it is sent. By any
 * thread, when no loop hands anything over. */
bool dp_handover_empty(const struct dp *dp);
/* Before sleeping. false: something came meanwhile; else whoever hands over wakes the loop until dp_handover_awake. */
bool dp_handover_sleep(struct dp_loop *loop);
void dp_handover_awake(struct dp_loop *loop);

#endif
