/* What the loops report: drop reasons, records for the control plane, counters, examples of dropped packets. */
#ifndef DP_DP_REPORT_H
#define DP_DP_REPORT_H

#include "dp_addresses.h"
#include "dp_sa.h"
#include "drops.h"

/* The sentence and the name of a drop reason; NULL outside the enumeration. */
const char *dp_drop_name(unsigned reason);
const char *dp_drop_sentence(unsigned reason);

enum dp_channel {
    DP_CHANNEL_STRANGER = 0, /* what anybody can cause: rate-limited for each source */
    DP_CHANNEL_TRUSTED = 1,  /* what only we and authenticated peers can cause */
};

enum dp_punt_kind {
    DP_PUNT_IKE = 1,         /* stranger: datagram with non-ESP marker on port 4500, the marker taken off */
    DP_PUNT_UNKNOWN_SPI = 2, /* stranger: first octets of an ESP packet */
    DP_PUNT_ACQUIRE = 16,    /* trusted: inner packet (first octets) that found no SA; `tunnel` */
    DP_PUNT_SA = 17,         /* trusted: an SA's sticky flag was raised; `sa`, `flags` */
    DP_PUNT_IO_ERROR = 18,   /* trusted: a device or socket failed; `interface` or `link`, `error` */
    DP_PUNT_OFFLOAD = 19,    /* trusted: an offload was given up; `interface` or `link`, `error`, `flags`: what is still on */
    DP_PUNT_TOO_BIG = 20,    /* trusted: the host took no datagram of this size; `link`, `local`, `remote`, `flags`: octets of it */
};

enum {
    DP_PUNT_INNER_MAX = 256 /* octets of a packet quoted by ACQUIRE and UNKNOWN_SPI */
};

struct dp_punt {
    uint16_t kind;   /* enum dp_punt_kind */
    uint16_t link;   /* of IKE, UNKNOWN_SPI, IO_ERROR; 65535: none */
    uint32_t tunnel; /* of ACQUIRE, SA */
    dp_sa_id sa;
    uint32_t spi;
    uint32_t flags;     /* enum dp_sa_flag */
    uint32_t interface; /* of ACQUIRE, IO_ERROR; 4294967295: none */
    int32_t error;      /* errno of IO_ERROR */
    uint64_t now;
    struct dp_addr local, remote; /* outer addresses */
    uint32_t octets;              /* of payload that follow this header in the same record */
    uint32_t pad;
};

/* The non-blocking SOCK_SEQPACKET descriptor to read punts from: one record a punt, header and payload. Owned by the data plane. */
int dp_punt_fd(const struct dp *dp, unsigned channel);

struct dp_counters {
    uint64_t drops[DP_DROP_COUNT];
    uint64_t packets_out, octets_out; /* inner */
    uint64_t packets_in, octets_in;
    uint64_t keepalives_in; /* RFC 3948 §2.3 */
    uint64_t ike_in;        /* datagrams with the non-ESP marker */
    uint64_t punts_limited, punts_lost;
    uint64_t handed_over;  /* packets that arrived at a worker and whose SA is another's; both directions */
    uint64_t taken_over;   /* the same at the other end: what the owners have taken */
    uint64_t cookies_sent; /* COOKIE answers from here (dp_config.cookie_rate) */
};
void dp_counters_read(const struct dp *dp, struct dp_counters *out);
/* Those of one worker. -EINVAL. */
int dp_worker_counters_read(const struct dp *dp, uint32_t worker, struct dp_counters *out);
/* The same, with worker 0 what belongs to none: together they are those of dp_counters_read. */
int dp_counters_export(const struct dp *dp, uint32_t worker, struct dp_counters *out);
/* A worker goes on from what one of another data plane counted: it is added. Before its threads run; -EBUSY, -EINVAL. */
int dp_counters_import(struct dp *dp, uint32_t worker, const struct dp_counters *counters);
/* Octets that a worker and its buffers for packets take, once traffic has touched all of them. -EINVAL. */
int64_t dp_worker_octets(const struct dp *dp, uint32_t worker);

enum {
    DP_EXAMPLES = 4 /* that each loop keeps of a reason: its last ones, each of another flow */
};

/* A packet that was dropped, as far as it shows itself. What is not opened, or was sealed already, has its outer addresses. */
struct dp_example {
    uint64_t now;
    uint8_t source[16], destination[16];    /* IPv4 in the first four */
    uint32_t source_port, destination_port; /* 65536: OPAQUE; ICMP: type << 8 | code in both */
    uint32_t interface, tunnel;             /* 4294967295: none, or not known */
    uint32_t spi;                           /* of ESP; 0: none */
    uint16_t protocol;                      /* 256: OPAQUE */
    uint8_t reason;
    uint8_t family;    /* 4, 6; 0: it shows no addresses */
    uint8_t direction; /* enum dp_direction */
    uint8_t outer;     /* the addresses are outer ones */
    uint8_t pad[6];
};
/* The examples of a reason that all loops keep, in no order: DP_EXAMPLES for each of a worker's two loops at the most. How many, or
 * -EINVAL: no such reason. */
int dp_examples_read(const struct dp *dp, unsigned reason, struct dp_example *out, size_t n);

#endif
