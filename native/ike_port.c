#include "ike_port.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "engine.h"
#include "link.h"

int dp_ike_port_open(struct dp *dp) {
    return dp_ike_gate_open(&dp->ike_port.gate, dp, false, true);
}

void dp_ike_port_close(struct dp *dp) {
    dp_ike_gate_close(&dp->ike_port.gate);
}

/* Judges one datagram. Whether it passes. */
static bool judge(struct dp_ike_port *port, int fd, const struct dp_addr *remote, const uint8_t *message, size_t octets,
                  uint64_t now) {
    struct dp_ike_gate *gate = &port->gate;
    switch (dp_ike_judge(gate, remote, message, octets, now)) {
    case DP_IKE_PASS:
        return true;
    case DP_IKE_ANSWER:
        (void)dp_link_answer(fd, remote, gate->answer + DP_NON_ESP_MARKER, DP_IKE_COOKIE_ANSWER);
        return false;
    case DP_IKE_FORGED:
        dp_add(&port->forged, 1);
        return false;
    default:
        dp_add(&port->limited, 1);
        return false;
    }
}

int dp_ike_receive(struct dp *dp, int fd, const struct dp_addr *local, uint32_t count[2], uint64_t now, uint8_t *out, size_t room) {
    size_t used = 0;
    uint32_t seen = 0, passed = 0;
    for (; seen < count[0] && passed < count[1] && room - used >= sizeof(struct dp_punt) + DP_IP_MAX; seen++) {
        struct dp_punt punt = {.kind = DP_PUNT_IKE, .link = UINT16_MAX, .interface = UINT32_MAX, .now = now, .local = *local};
        uint8_t *message = out + used + sizeof punt;
        union dp_sockaddr from;
        socklen_t octets = sizeof from;
        ssize_t got = recvfrom(fd, message, DP_IP_MAX, MSG_DONTWAIT, &from.any, &octets);
        if (got < 0 && (errno == EAGAIN || errno == EBADF))
            break;
        if (got < 0) /* an ICMP error about something that was sent; anybody may have made it */
            continue;
        dp_from_sockaddr(&punt.remote, &from);
        if (!judge(&dp->ike_port, fd, &punt.remote, message, (size_t)got, now))
            continue;
        punt.octets = (uint32_t)got;
        memcpy(out + used, &punt, sizeof punt);
        used += (sizeof punt + (size_t)got + 7) & ~(size_t)7;
        passed++;
    }
    count[0] = seen;
    count[1] = passed;
    return (int)used;
}
