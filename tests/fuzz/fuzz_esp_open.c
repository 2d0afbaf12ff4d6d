/* libFuzzer: what dp_esp_open makes of packets that our own key sealed and the input then spoiled.
 *
 *   octet 0      provider and suite
 *   octet 1      mode in the low two bits, ESN in the third
 *   octet 2, 3   length of the inner packet or plaintext
 *   then         SPOILED: changes, four octets each; RAW: the ESP packet; CRAFTED: the end of the plaintext
 *
 * Only an untouched packet may open, and gives back what was sealed. Every buffer ends at an inaccessible page, because the
 * providers' assembly is not instrumented; what lies before it is poisoned. How many runs passed the ICV is printed at exit. */
#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../native/esp_sa.h"

enum {
    MODE_UNTOUCHED,
    MODE_SPOILED,
    MODE_CRAFTED, /* a right ICV around any padding and trailer */
    MODE_RAW,
    INNER_MAX = 2000,
    ROOM = 4096,
    FILL = 0xee,
};

static unsigned long runs, passed;

static struct sa sas[2][SUITES][2];

static void finish(void) {
    for (size_t i = 0; i < 2 * SUITES * 2; i++) {
        struct sa *sa = &sas[i / 2 / SUITES][i / 2 % SUITES][i % 2];
        if (sa->arena)
            sa_end(sa);
    }
    if (runs != 0)
        fprintf(stderr, "esp_open: %lu of %lu runs passed the ICV (%lu %%)\n", passed, runs, 100 * passed / runs);
}

/* `octets` between poison and a page that cannot be read; there are `index` 0..2 such places. */
static uint8_t *fenced(unsigned index, size_t octets) {
    static uint8_t *ends[3];
    if (!ends[index]) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        uint8_t *mapped = mmap(NULL, ROOM + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped == MAP_FAILED || mprotect(mapped + ROOM, page, PROT_NONE) != 0)
            abort();
        ends[index] = mapped + ROOM;
    }
    ASAN_UNPOISON_MEMORY_REGION(ends[index] - ROOM, ROOM);
    memset(ends[index] - ROOM, FILL, ROOM);
    ASAN_POISON_MEMORY_REGION(ends[index] - ROOM, ROOM - octets);
    return ends[index] - octets;
}

static struct sa *sa_for(uint8_t choice, bool esn) {
    if (runs == 1 && (dp_cipher_load() != 0 || atexit(finish) != 0))
        abort();
    size_t suite = choice / 2 % SUITES;
    unsigned provider = choice % 2;
    struct sa *sa = &sas[provider][suite][esn];
    if (!sa->arena && !sa_start(sa, provider ? DP_PROVIDER_IPSEC_MB : DP_PROVIDER_OPENSSL, &suites[suite], esn, NULL) &&
        !sa_start(sa, DP_PROVIDER_AUTO, &suites[suite], esn, NULL))
        abort();
    return sa;
}

static void check(bool holds, const char *what) {
    if (holds)
        return;
    fprintf(stderr, "esp_open: %s\n", what);
    abort();
}

/* Whether the packet's first octets are to be seen where they would stand. Plaintext that looks like wiped or untouched memory
 * cannot tell. */
static bool leaked(const uint8_t *plain, const uint8_t *inner, size_t octets) {
    static const uint8_t wiped[16];
    uint8_t untouched[16];
    memset(untouched, FILL, sizeof(untouched));
    if (octets < 16 || memcmp(inner, wiped, 16) == 0 || memcmp(inner, untouched, 16) == 0)
        return false;
    return memcmp(plain, inner, 16) == 0;
}

static uint32_t packet_sequence(const uint8_t *packet) {
    return (uint32_t)packet[4] << 24 | (uint32_t)packet[5] << 16 | (uint32_t)packet[6] << 8 | packet[7];
}

static enum dp_drop open_packet(struct sa *sa, uint64_t sequence, const uint8_t *packet, size_t octets, uint8_t **plain,
                                struct dp_esp_opened *opened) {
    *plain = fenced(2, octets);
    *opened = (struct dp_esp_opened){.octets = UINT32_MAX};
    enum dp_drop verdict = dp_esp_open(&sa->esp, sequence, packet, octets, *plain, opened);
    check(verdict == DP_OK || verdict == DP_DROP_esp_length || verdict == DP_DROP_icv || verdict == DP_DROP_pad, "verdict");
    check(verdict != DP_OK || opened->octets + DP_ESP_TRAILER <= octets, "more plaintext than packet");
    passed += verdict == DP_OK || verdict == DP_DROP_pad;
    return verdict;
}

/* Four octets a change: what, where (two), with what. The packet's new length. */
static size_t spoil(uint8_t *packet, size_t octets, uint64_t *sequence, bool esn, const uint8_t *data, size_t size) {
    for (; size >= 4 && octets > DP_ESP_HEADER; data += 4, size -= 4) {
        size_t where = (size_t)(data[1] << 8 | data[2]);
        switch (data[0] % 5) {
        case 0: /* anywhere behind the SPI */
            packet[4 + where % (octets - 4)] ^= data[3];
            break;
        case 1: /* in the last octets, where ICV and trailer are */
            packet[octets - 1 - where % (octets < 36 ? octets - 4 : 32)] ^= data[3];
            break;
        case 2:
            octets = DP_ESP_HEADER + where % (octets - DP_ESP_HEADER + 1);
            break;
        case 3:
            octets += octets + data[3] % 32 <= ROOM / 2 + 128 ? data[3] % 32 : 0;
            break;
        default:
            *sequence ^= esn ? (uint64_t)data[3] << 32 : 0;
        }
    }
    return octets;
}

static void run_sealed(struct sa *sa, bool spoiled, size_t inner_octets, const uint8_t *data, size_t size) {
    static uint8_t sealed[ROOM], changed[ROOM], wanted[INNER_MAX];
    for (size_t i = 0; i < inner_octets; i++)
        wanted[i] = (uint8_t)((i < size ? data[i] : 0) + 37 * i + 11);
    uint8_t *inner = fenced(0, inner_octets + DP_ESP_TAILROOM);
    memcpy(inner, wanted, inner_octets);
    size_t total = dp_esp_sealed_octets(&sa->esp, inner_octets), octets = total;
    uint8_t *out = fenced(1, total);
    uint64_t sequence = UINT64_C(0x0000000700000009) + inner_octets;
    check(dp_esp_seal(&sa->esp, sequence, inner, inner_octets, DP_NH_IPV4, out) == DP_OK, "seal");
    check(memcmp(inner, wanted, inner_octets) == 0, "sealing changed the inner packet");
    memcpy(sealed, out, total);
    memcpy(changed, out, total);

    uint64_t claimed = sequence;
    if (spoiled)
        octets = spoil(changed, total, &claimed, sa->esp.esn, data, size);
    claimed = (claimed >> 32 << 32) | packet_sequence(changed);
    bool same = octets == total && claimed == sequence && memcmp(changed, sealed, total) == 0;
    uint8_t *packet = fenced(1, octets), *plain;
    memcpy(packet, changed, octets);
    struct dp_esp_opened opened;
    enum dp_drop verdict = open_packet(sa, claimed, packet, octets, &plain, &opened);
    check((verdict == DP_OK) == same, "a spoiled packet opened, or an untouched one did not");
    if (same)
        check(opened.octets == inner_octets && opened.next_header == DP_NH_IPV4 && memcmp(plain, wanted, inner_octets) == 0,
              "content");
    else
        check(octets < 16 || !leaked(plain, wanted, inner_octets < octets ? inner_octets : 0), "plaintext left behind");
}

/* What RFC 4303 §2.4 says of plaintext, written once more. */
static enum dp_drop expected(const uint8_t *plain, size_t octets, size_t *left) {
    size_t pad = plain[octets - 2];
    if (pad + 2 > octets)
        return DP_DROP_pad;
    *left = octets - 2 - pad;
    for (size_t i = 0; i < pad; i++)
        if (plain[*left + i] != i + 1)
            return DP_DROP_pad;
    return DP_OK;
}

static void run_crafted(struct sa *sa, size_t octets, const uint8_t *data, size_t size) {
    static uint8_t crafted[ROOM], sealed[ROOM];
    size_t block = sa->esp.cipher->block_octets > DP_ESP_ALIGN ? sa->esp.cipher->block_octets : DP_ESP_ALIGN;
    octets = (octets / block + 1) * block;
    if (size > octets)
        size = octets;
    for (size_t i = 0; i < octets; i++) /* padding that ends right, under the input */
        crafted[i] = (uint8_t)(octets - i <= 10 ? i - (octets - 10) + 1 : 37 * i + 11);
    memcpy(crafted + octets - size, data, size);
    size_t total = sa_seal_raw(sa, 5, crafted, octets, sealed);
    uint8_t *packet = fenced(1, total), *plain;
    memcpy(packet, sealed, total);

    size_t left = 0;
    enum dp_drop wanted = expected(crafted, octets, &left);
    struct dp_esp_opened opened;
    check(open_packet(sa, 5, packet, total, &plain, &opened) == wanted, "verdict on the padding");
    if (wanted == DP_OK)
        check(opened.octets == left && opened.next_header == crafted[octets - 1] && memcmp(plain, crafted, left) == 0, "content");
    else
        check(!leaked(plain, crafted, octets), "plaintext left behind");
}

/* Nothing is said of the verdict: libFuzzer takes what memcmp above was given for its dictionary, and so learns sealed packets. */
static void run_raw(struct sa *sa, const uint8_t *data, size_t size) {
    if (size < DP_ESP_HEADER || size > ROOM / 2)
        return;
    uint8_t *packet = fenced(1, size), *plain;
    memcpy(packet, data, size);
    struct dp_esp_opened opened;
    open_packet(sa, packet_sequence(packet), packet, size, &plain, &opened);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 4)
        return -1;
    runs++;
    struct sa *sa = sa_for(data[0], data[1] & 4);
    size_t octets = (size_t)(data[2] << 8 | data[3]) % INNER_MAX;
    unsigned mode = data[1] & 3;
    if (mode == MODE_RAW)
        run_raw(sa, data + 4, size - 4);
    else if (mode == MODE_CRAFTED)
        run_crafted(sa, octets, data + 4, size - 4);
    else
        run_sealed(sa, mode == MODE_SPOILED, octets, data + 4, size - 4);
    return 0;
}
