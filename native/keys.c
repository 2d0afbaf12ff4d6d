/* The key arena. Blocks are bump-allocated from chunks and kept in one free list per size when they come back: an SA's key contexts
 * have few sizes, so nothing needs merging. Chunks are unmapped only with the arena. */
#include "keys.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    ALIGN = 64,
    BLOCK_MAX = 16384,
    CLASSES = BLOCK_MAX / ALIGN,
    CHUNK = 256 * 1024,
};

struct chunk {
    struct chunk *next;
    uint8_t *base; /* CHUNK octets between two inaccessible pages */
    size_t used;
};

/* The first octets of a block in a free list; everything else in it is zero. */
struct freed {
    struct freed *next;
};

struct dp_arena {
    struct chunk *chunks; /* blocks are taken from the first only */
    struct freed *freed[CLASSES];
    struct dp_arena_info info;
};

static size_t page_octets(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* CHUNK octets with an inaccessible page on either side, so that an overrun of other memory does not reach a key. */
static uint8_t *map_guarded(void) {
    size_t page = page_octets();
    uint8_t *mapped = mmap(NULL, CHUNK + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    if (mprotect(mapped + page, CHUNK, PROT_READ | PROT_WRITE) != 0) {
        munmap(mapped, CHUNK + 2 * page);
        return NULL;
    }
    return mapped + page;
}

static bool grow(struct dp_arena *arena) {
    struct chunk *chunk = calloc(1, sizeof(*chunk));
    if (!chunk)
        return false;
    chunk->base = map_guarded();
    if (!chunk->base) {
        free(chunk);
        return false;
    }
    arena->info.locked &= mlock(chunk->base, CHUNK) == 0;
    arena->info.undumped &= madvise(chunk->base, CHUNK, MADV_DONTDUMP) == 0;
    arena->info.wiped_on_fork &= madvise(chunk->base, CHUNK, MADV_WIPEONFORK) == 0;
    arena->info.octets += CHUNK;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    return true;
}

struct dp_arena *dp_arena_create(void) {
    struct dp_arena *arena = calloc(1, sizeof(*arena));
    if (!arena)
        return NULL;
    arena->info = (struct dp_arena_info){.locked = 1, .undumped = 1, .wiped_on_fork = 1};
    if (!grow(arena)) {
        free(arena);
        errno = ENOMEM;
        return NULL;
    }
    return arena;
}

void dp_arena_destroy(struct dp_arena *arena) {
    if (!arena)
        return;
    size_t page = page_octets();
    while (arena->chunks) {
        struct chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        explicit_bzero(chunk->base, CHUNK);
        munmap(chunk->base - page, CHUNK + 2 * page);
        free(chunk);
    }
    free(arena);
}

/* Octets rounded up to ALIGN; 0: out of range. */
static size_t block_octets(size_t octets) {
    if (octets == 0 || octets > BLOCK_MAX)
        return 0;
    return (octets + ALIGN - 1) / ALIGN * ALIGN;
}

void *dp_arena_alloc(struct dp_arena *arena, size_t octets) {
    size_t size = block_octets(octets);
    if (size == 0)
        return NULL;
    struct freed **list = &arena->freed[size / ALIGN - 1];
    void *block = *list;
    if (block) {
        *list = (*list)->next;
        memset(block, 0, sizeof(struct freed));
    } else {
        if (CHUNK - arena->chunks->used < size && !grow(arena))
            return NULL;
        block = arena->chunks->base + arena->chunks->used;
        arena->chunks->used += size;
    }
    arena->info.in_use += size;
    return block;
}

void dp_arena_free(struct dp_arena *arena, void *block, size_t octets) {
    size_t size = block_octets(octets);
    explicit_bzero(block, size);
    struct freed **list = &arena->freed[size / ALIGN - 1];
    struct freed *head = block;
    head->next = *list;
    *list = head;
    arena->info.in_use -= size;
}

void dp_arena_info(const struct dp_arena *arena, struct dp_arena_info *info) {
    *info = arena->info;
}
