#include "ike_filter.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ike_message.h"
#include "seen.h"

/* The one value of the map, which the program and this process share. */
struct dp_ike_shared {
    _Atomic uint64_t on;
    _Atomic int64_t firsts; /* that may still pass */
    _Atomic uint64_t dropped;
    struct dp_seen_table seen;
};

/* ---- the program: registers 0 to 9 by number; 6 has the packet, which the loads below want there, 7 the shared value */

#define SHARED(field) ((int16_t)offsetof(struct dp_ike_shared, field))
#define INSN(op, to, from, offset, value)                                                                                          \
    { .code = (uint8_t)(op), .dst_reg = (to), .src_reg = (from), .off = (int16_t)(offset), .imm = (int32_t)(value) }
#define MOVE(to, from) INSN(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
#define SET(to, value) INSN(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value)
#define DO(what, to, value) INSN(BPF_ALU64 | (what) | BPF_K, to, 0, 0, value)
#define DO_REGISTER(what, to, from) INSN(BPF_ALU64 | (what) | BPF_X, to, from, 0, 0)
#define LOAD(to, from, offset) INSN(BPF_LDX | BPF_MEM | BPF_DW, to, from, offset, 0)
#define ATOMIC(what, at, offset, from) INSN(BPF_STX | BPF_ATOMIC | BPF_DW, at, from, offset, what)
#define SET_64(to, kind, low, high) INSN(BPF_LD | BPF_IMM | BPF_DW, to, kind, 0, low), INSN(0, 0, 0, 0, high)
#define PACKET(size, at) INSN(BPF_LD | BPF_ABS | (size), 0, 0, 0, at) /* into 0, in the host's order; 1 to 5 are lost */
#define TO_NETWORK_ORDER(to) INSN(BPF_ALU | BPF_END | BPF_TO_BE, to, 0, 0, 32)
#define IF(how, what, value, by) INSN(BPF_JMP | (how) | BPF_K, what, 0, by, value)
#define GO(by) INSN(BPF_JMP | BPF_JA, 0, 0, by, 0)
#define PASS INT16_MAX /* instead of how far: to the end, where it is let through */

/* dp_mix of register 8; 1 and 2 are lost. */
#define MIX_SHIFT MOVE(1, 8), DO(BPF_RSH, 1, 33), DO_REGISTER(BPF_XOR, 8, 1)
#define MIX_TIMES(low, high) SET_64(2, 0, low, high), DO_REGISTER(BPF_MUL, 8, 2)
#define MIX MIX_SHIFT, MIX_TIMES(0xed558ccd, 0xff51afd7), MIX_SHIFT, MIX_TIMES(0x1a85ec53, 0xc4ceb9fe), MIX_SHIFT

enum {
    UDP = 8, /* octets of its header, where the packet begins */
    NOTIFY = 41,
    KIND = 0x00f0ff00 | DP_IKE_INITIATOR | DP_IKE_RESPONSE, /* of first payload, version, exchange, flags */
    REQUEST = DP_IKE_VERSION << 16 | DP_IKE_SA_INIT << 8 | DP_IKE_INITIATOR,
    OTHER_WORDS = sizeof((struct dp_seen_table *)NULL)->words[0],
};

static int load(int map, uint64_t secret) {
    struct bpf_insn program[] = {
        MOVE(6, 1),
        SET_64(7, BPF_PSEUDO_MAP_VALUE, map, 0),
        LOAD(0, 7, SHARED(on)),
        IF(BPF_JEQ, 0, 0, PASS),
        INSN(BPF_LDX | BPF_MEM | BPF_W, 0, 6, offsetof(struct __sk_buff, len), 0),
        IF(BPF_JLT, 0, UDP + DP_IKE_HEADER, PASS),
        PACKET(BPF_W, UDP + 8), /* the responder's SPI */
        IF(BPF_JNE, 0, 0, PASS),
        PACKET(BPF_W, UDP + 12),
        IF(BPF_JNE, 0, 0, PASS),
        PACKET(BPF_W, UDP + 20), /* the message ID */
        IF(BPF_JNE, 0, 0, PASS),
        PACKET(BPF_W, UDP + 16),
        MOVE(8, 0),
        DO(BPF_RSH, 8, 24),
        IF(BPF_JEQ, 8, NOTIFY, PASS), /* it may bring a cookie */
        DO(BPF_AND, 0, KIND),
        IF(BPF_JNE, 0, REQUEST, PASS),
        /* Register 8: the network as dp_network_hash has it, 9: the IP version. */
        PACKET(BPF_B, SKF_NET_OFF),
        DO(BPF_RSH, 0, 4),
        MOVE(9, 0),
        PACKET(BPF_W, SKF_NET_OFF + 12),
        TO_NETWORK_ORDER(0),
        MOVE(8, 0),
        IF(BPF_JEQ, 9, 4, 4),
        DO(BPF_LSH, 8, 32),
        PACKET(BPF_W, SKF_NET_OFF + 8),
        TO_NETWORK_ORDER(0),
        DO_REGISTER(BPF_OR, 8, 0),
        SET_64(1, 0, secret, secret >> 32),
        DO_REGISTER(BPF_XOR, 8, 1),
        MIX,
        DO_REGISTER(BPF_ADD, 8, 9),
        MIX,
        /* 1: its bit, 2: the value, as far on as its word is from the first. */
        DO(BPF_AND, 8, DP_SEEN_BITS - 1),
        MOVE(3, 8),
        DO(BPF_AND, 3, 63),
        SET(1, 1),
        DO_REGISTER(BPF_LSH, 1, 3),
        DO(BPF_RSH, 8, 6),
        DO(BPF_LSH, 8, 3),
        MOVE(2, 7),
        DO_REGISTER(BPF_ADD, 2, 8),
        LOAD(3, 2, SHARED(seen.words)),
        MOVE(5, 2),
        DO(BPF_ADD, 5, OTHER_WORDS),
        LOAD(4, 5, SHARED(seen.words)),
        DO_REGISTER(BPF_OR, 3, 4),
        DO_REGISTER(BPF_AND, 3, 1),
        IF(BPF_JNE, 3, 0, PASS),
        LOAD(3, 7, SHARED(firsts)),
        IF(BPF_JSLE, 3, 0, 3),
        SET(3, -1),
        ATOMIC(BPF_ADD, 7, SHARED(firsts), 3),
        GO(PASS),
        LOAD(3, 7, SHARED(seen.current)),
        IF(BPF_JEQ, 3, 0, 1),
        MOVE(2, 5),
        ATOMIC(BPF_OR, 2, SHARED(seen.words), 1),
        SET(3, 1),
        ATOMIC(BPF_ADD, 7, SHARED(dropped), 3),
        SET(0, 0),
        INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
        SET(0, -1), /* as many octets as there are */
        INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
    };
    const unsigned count = sizeof program / sizeof *program;
    for (unsigned i = 0; i < count; i++)
        if (program[i].off == PASS)
            program[i].off = (int16_t)(count - 2 - (i + 1));
    union bpf_attr a;
    memset(&a, 0, sizeof a);
    a.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    a.insns = (uintptr_t)program;
    a.insn_cnt = count;
    a.license = (uintptr_t) "Apache-2.0";
    return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &a, sizeof a);
}

/* ---- its life */

static int map_new(void) {
    union bpf_attr a;
    memset(&a, 0, sizeof a);
    a.map_type = BPF_MAP_TYPE_ARRAY;
    a.key_size = sizeof(uint32_t);
    a.value_size = sizeof(struct dp_ike_shared);
    a.max_entries = 1;
    a.map_flags = BPF_F_MMAPABLE;
    return (int)syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof a);
}

int dp_ike_filter_open(struct dp_ike_filter *f, struct dp_seen *seen) {
    *f = (struct dp_ike_filter){.map = -1, .program = -1};
    if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__) /* as the octets of an address lie in a register above */
        return -ENOTSUP;
    f->map = map_new();
    if (f->map >= 0)
        f->program = load(f->map, dp_seen_secret(seen));
    if (f->program < 0)
        return -errno;
    void *shared = mmap(NULL, sizeof *f->shared, PROT_READ | PROT_WRITE, MAP_SHARED, f->map, 0);
    if (shared == MAP_FAILED)
        return -errno;
    f->shared = shared;
    dp_seen_use(seen, &f->shared->seen);
    return 0;
}

void dp_ike_filter_close(struct dp_ike_filter *f) {
    if (f->shared != NULL)
        munmap(f->shared, sizeof *f->shared);
    if (f->program >= 0)
        close(f->program);
    if (f->map >= 0)
        close(f->map);
    *f = (struct dp_ike_filter){.map = -1, .program = -1};
}

void dp_ike_filter_attach(const struct dp_ike_filter *f, int fd) {
    if (f->shared != NULL)
        (void)setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &f->program, sizeof f->program);
}

void dp_ike_filter_detach(const struct dp_ike_filter *f, int fd) {
    if (f->shared != NULL)
        (void)setsockopt(fd, SOL_SOCKET, SO_DETACH_BPF, &f->program, sizeof f->program);
}

/* ---- a flood */

void dp_ike_filter_after(struct dp_ike_filter *f, uint32_t firsts) {
    if (f->shared == NULL)
        return;
    atomic_store_explicit(&f->shared->firsts, firsts, memory_order_relaxed);
    atomic_store_explicit(&f->shared->on, 1, memory_order_relaxed);
}

void dp_ike_filter_end(struct dp_ike_filter *f) {
    if (f->shared != NULL)
        atomic_store_explicit(&f->shared->on, 0, memory_order_relaxed);
}

uint32_t dp_ike_filter_dropped(struct dp_ike_filter *f) {
    if (f->shared == NULL)
        return 0;
    uint64_t dropped = atomic_load_explicit(&f->shared->dropped, memory_order_relaxed), since = dropped - f->dropped;
    f->dropped = dropped;
    return (uint32_t)since;
}
