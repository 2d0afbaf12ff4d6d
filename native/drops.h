/* Every reason for which the data plane drops a packet, in one list.
 *
 * DP_DROPS(X) expands X(name, sentence) once per reason. The list makes the enumeration below, the counters, the metric labels and
 * the sentences a person reads; a reason that is not here cannot be counted. New reasons go at the end of their group. */
#ifndef DP_DROPS_H
#define DP_DROPS_H

#define DP_DROPS(X)                                                                                                                \
    /* the inner packet, either direction */                                                                                       \
    X(inner_version, "inner packet is neither IPv4 nor IPv6, or not what the ESP next header said")                                \
    X(inner_length, "inner IP header or total length does not fit the packet")                                                     \
    X(inner_header, "inner extension headers are malformed or too many")                                                           \
    X(multicast_shared, "multicast on an interface that several tunnels share")                                                    \
    X(fragment_ports, "a later fragment shows no ports, and selectors ask for them")                                               \
    X(fragment_refused, "a fragment overlaps another of its datagram, or its first lacks a whole upper-layer header")              \
    /* outbound: TUN to wire */                                                                                                    \
    X(policy_none, "no policy or proxy ID holds the packet")                                                                       \
    X(policy_discard, "a policy says discard")                                                                                     \
    X(no_sa, "policy says protect, but no CHILD_SA holds the packet yet")                                                          \
    X(hard_limit, "the SA has used up its octets or packets")                                                                      \
    X(sequence_exhausted, "the SA has used its last sequence number or IV")                                                        \
    X(too_big, "packet does not fit the buffer or the outer link")                                                                 \
    X(crypto_fault, "the cryptographic provider reported an error")                                                                \
    X(send_full, "the outer socket's send buffer was full")                                                                        \
    X(send_error, "the outer socket refused the packet")                                                                           \
    X(no_link, "no socket for the tunnel's local address and encapsulation")                                                       \
    X(guest_cloned, "this virtual machine was cloned or restored: its SAs are dead")                                               \
    X(offload_kind, "super-packet of a kind that the TUN device was not asked for")                                                \
    X(offload_fields, "the TUN device's offload header does not fit the packet behind it")                                         \
    X(mtu, "packet longer than the tunnel's MTU that must not be fragmented; its sender was told")                                 \
    X(policy_bypass, "a policy says bypass, but a route or fragmentation brought the packet into the tunnel interface")            \
    X(own_outer, "our own ESP or IKE packet came back into the tunnel interface")                                                  \
    X(unreserved, "the SA has used the sequence numbers that are reserved for it, and no others are yet")                          \
    /* inbound: wire to TUN */                                                                                                     \
    X(runt, "datagram too short to be ESP")                                                                                        \
    X(unknown_spi, "no SA has this SPI")                                                                                           \
    X(esp_length, "ESP length does not fit the cipher's block or is too short")                                                    \
    X(replay, "sequence number was already received")                                                                              \
    X(too_old, "sequence number lies behind the anti-replay window")                                                               \
    X(icv, "integrity check value is wrong")                                                                                       \
    X(pad, "ESP padding is not 1, 2, 3, … or longer than the packet")                                                              \
    X(next_header, "ESP next header is not IPv4, IPv6 or dummy")                                                                   \
    X(dummy, "dummy packet (traffic flow confidentiality)")                                                                        \
    X(selectors, "inner packet lies outside the SA's traffic selectors")                                                           \
    X(policy_inbound, "a policy discards the reverse of this inbound packet")                                                      \
    X(ecn, "outer congestion mark on an inner packet that is not ECN-capable")                                                     \
    X(tun_full, "the TUN device did not take the packet")                                                                          \
    X(tun_gone, "the TUN device is gone")                                                                                          \
    X(ike_limited, "IKE or unknown-SPI datagram over the rate allowed for its source")                                             \
    X(reserved_dropped, "came before its SA was there, and none came of it in time, or too much came")                             \
    X(punt_full, "the channel to the control plane was full")                                                                      \
    X(ike_icv, "IKE message with the SPIs of an IKE SA of ours whose integrity check value is wrong")                              \
    X(unpublished, "sequence number lies above the bound that was published for the SA")                                           \
    /* either direction: from worker to worker, and to another process */                                                          \
    X(handover_full, "the worker that owns the SA is too busy: no room to hand the packet over to it")                             \
    X(retired, "the SA was handed over to another process or host, and is retired here")

/* DP_OK means: not dropped. */
enum dp_drop {
    DP_OK = 0,
#define DP_DROP_ENUM(name, sentence) DP_DROP_##name,
    DP_DROPS(DP_DROP_ENUM)
#undef DP_DROP_ENUM
    DP_DROP_COUNT
};

#endif
