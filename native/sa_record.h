/* What an SA leaves to another data plane as octets, as dp.h describes them. */
#ifndef DP_SA_RECORD_H
#define DP_SA_RECORD_H

#include <stdbool.h>

#include "dp.h"

/* The octets of the record that begins there; 0: none does, in so many octets. */
size_t dp_sa_record_octets(const uint8_t *record, size_t left);
/* The inverse of dp_sa_record_write, of a record of these octets; the keying material stays where it is. false: nobody wrote it. */
bool dp_sa_record_read(const uint8_t *record, size_t octets, struct dp_sa_state *state, const uint8_t **keymat,
                       size_t *keymat_octets);

#endif
