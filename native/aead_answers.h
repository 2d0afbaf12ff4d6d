/* The known-answer tests that every cipher passes before it may carry a packet. */
#ifndef DP_AEAD_ANSWERS_H
#define DP_AEAD_ANSWERS_H

#include "aead.h"

/* Known-answer tests of one cipher: published vectors, and a chain of packets of all lengths whose last ICV is known. 0; -EBADMSG:
 * a wrong result, a wrong ICV taken, plaintext left behind one, or a suite without vectors; or what `init` said. */
int dp_cipher_known_answers(const struct dp_cipher *cipher);

#endif
