/* The key arena: the only memory of this project that holds ESP keys and expanded key schedules. (What OpenSSL expands for its own
 * contexts lies in its heap; it wipes that when an SA's cipher is finished.)
 *
 * Mapped apart from the heap, locked (mlock), left out of core dumps (MADV_DONTDUMP), zeroed in forked children (MADV_WIPEONFORK),
 * wiped when given back. Used by the control thread only. Blocks are aligned to 64 octets, as the providers' schedules ask. */
#ifndef DP_KEYS_H
#define DP_KEYS_H

#include "dp.h"

struct dp_arena;

/* NULL with errno when the first chunk cannot be mapped. Failing to lock is not an error but shows in dp_arena_info.locked. */
struct dp_arena *dp_arena_create(void);
/* Wipes everything and unmaps. NULL is allowed. */
void dp_arena_destroy(struct dp_arena *arena);
/* A zeroed block of 1..16384 octets; NULL: -ENOMEM. */
void *dp_arena_alloc(struct dp_arena *arena, size_t octets);
/* Wipes the block (explicit_bzero) and takes it back; `octets` as allocated. */
void dp_arena_free(struct dp_arena *arena, void *block, size_t octets);
void dp_arena_info(const struct dp_arena *arena, struct dp_arena_info *info);

#endif
