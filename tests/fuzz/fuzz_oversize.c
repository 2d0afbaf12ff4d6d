/* Any inner packet, any MTU: fragments stay within the packet and come to its length, the ICMP message fits its room, and lowering
 * the MSS leaves the checksum exactly as right or wrong as before. */
#include <stdlib.h>
#include <string.h>

#include "fragment.h"
#include "mss.h"
#include "too_big.h"

static void require(bool holds) {
    if (!holds)
        abort();
}

static void cut(uint8_t *packet, const struct dp_inner *inner, uint32_t mtu) {
    struct dp_fragments f;
    uint32_t octets, content = 0;
    if (!dp_fragments_begin(&f, packet, inner, mtu))
        return;
    for (uint8_t *one; (one = dp_fragments_next(&f, &octets)) != NULL;) {
        struct dp_inner part;
        require(octets <= mtu && dp_inner_read(one, octets, DP_FLOW_OUTBOUND, &part) == DP_OK && part.octets == octets);
        content += octets - part.header;
        memset(one + octets, 0xa5, DP_ESP_TAILROOM);
    }
    require(content == inner->octets - inner->header);
}

static void clamp(uint8_t *packet, const struct dp_inner *inner, uint16_t mss) {
    uint32_t upper = inner->octets - inner->header;
    uint16_t before = dp_checksum_fold(dp_checksum(packet + inner->header, upper, 0));
    if (dp_mss_clamp(packet, inner, mss, false)) {
        uint16_t after = dp_checksum_fold(dp_checksum(packet + inner->header, upper, 0));
        require(after == before || (after % 0xffff == 0 && before % 0xffff == 0)); /* both zeros of ones' complement */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t octets) {
    if (octets < 2 || octets > 65535)
        return 0;
    uint16_t mtu = dp_read_16(input);
    octets -= 2;
    uint8_t *packet = malloc(octets + DP_ESP_TAILROOM), message[DP_TOO_BIG_MAX];
    struct dp_inner inner;
    require(packet != NULL);
    memcpy(packet, input + 2, octets);
    if (dp_inner_read(packet, octets, DP_FLOW_OUTBOUND, &inner) == DP_OK) {
        size_t said = dp_too_big_make(message, packet, &inner, mtu);
        require(said <= (inner.version == 4 ? 576 : DP_TOO_BIG_MAX));
        clamp(packet, &inner, mtu);
        if (inner.version == 4)
            cut(packet, &inner, mtu);
    }
    free(packet);
    return 0;
}
