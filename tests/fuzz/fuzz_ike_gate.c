/* Any octets as an IKE message at the gate: nothing is read outside them, what begins an IKE SA has its nonce and cookie inside, an
 * answer is no longer than the question, and only an authentic message passes for an SA with a key.
 *
 *   octet 0   whether it is given the SPIs of the IKE SA that is known, or begins with none of the responder
 *   then      the message; its length field is set right where the low bit of octet 0 says so */
#include <stdlib.h>
#include <string.h>

#include "../native/plane.h"
#include "ike_gate.h"
#include "ike_message.h"

static struct dp *dp;

static void require(bool holds) {
    if (!holds)
        abort();
}

static void begin(void) {
    struct dp_config config = {
        .sa_slots = 256, .tunnels = 4, .interfaces = 4, .workers = 1, .stranger_rate = 1, .stranger_burst = 1};
    config.begin_rate = config.other_rate = config.proven_rate = config.proven_burst = config.proven_rate_in_all = 1;
    config.repeat_rate = config.repeat_burst = 1;
    config.cookie_rate = config.cookie_nat_rate = 1u << 29;
    config.cookie_seen_seconds = 8;
    config.cookie_seconds = 60;
    require(dp_create(&config, &dp) == 0);
    struct dp_ike_sa_params sa = {
        .own_spi = "respondr", .peer_spi = "initiatr", .nat_port = 1, .encr = DP_ENCR_AES_GCM_16, .key_octets = 16};
    uint8_t octets[32] = {1, 2, 3};
    require(dp_ike_sa_set(dp, &sa, octets, 20) == 0 && dp_ike_cookie_secret(dp, octets, sizeof octets) == 0);
}

static void inside(const uint8_t *message, size_t octets, const uint8_t *part, uint32_t length) {
    require(part >= message && length <= octets && (size_t)(part - message) <= octets - length);
}

static void look(const uint8_t *message, size_t octets) {
    struct dp_ike_message m;
    struct dp_ike_begin b;
    if (!dp_ike_read(message, octets, &m))
        return;
    require(m.octets == octets && dp_ike_protected(&m) <= octets);
    if (!dp_ike_begins(&m, &b))
        return;
    inside(message, octets, b.nonce, b.nonce_octets);
    if (b.cookie != NULL)
        inside(message, octets, b.cookie, b.cookie_octets);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t octets) {
    if (dp == NULL)
        begin();
    if (octets == 0 || octets > 65535)
        return 0;
    uint8_t how = *input++, *message = malloc(--octets != 0 ? octets : 1);
    require(message != NULL);
    memcpy(message, input, octets);
    if (octets >= DP_IKE_HEADER && (how & 1) != 0) {
        const uint32_t length = __builtin_bswap32((uint32_t)octets);
        memcpy(message + 24, &length, sizeof length);
        message[17] = 0x20;
    }
    if (octets >= DP_IKE_HEADER && (how & 2) != 0)
        memcpy(message, "initiatrrespondr", 16);
    if (octets >= DP_IKE_HEADER && (how & 4) != 0)
        memset(message + 8, 0, 8);
    look(message, octets);
    struct dp_addr remote = {.family = 4, .port = 4500, .ip = {198, 51, 100, 1}};
    static uint64_t now = START;
    struct dp_ike_gate *gate = &dp->worker[0].inbound.gate;
    enum dp_ike_verdict verdict = dp_ike_judge(gate, &remote, message, octets, now += 10);
    require(verdict != DP_IKE_ANSWER || octets >= DP_IKE_COOKIE_ANSWER);
    struct dp_ike_message m;
    if (dp_ike_read(message, octets, &m) && dp_ike_protected(&m) != 0 && memcmp(message, "initiatrrespondr", 16) == 0 &&
        (m.flags & DP_IKE_INITIATOR) != 0)
        require(verdict == DP_IKE_FORGED);
    free(message);
    return 0;
}
