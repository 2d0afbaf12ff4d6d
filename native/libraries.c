/* The versions of the libraries that this process runs with, which may be newer than those it was compiled for. */
#include "dp.h"

#include <openssl/crypto.h>

#if DP_HAVE_IPSEC_MB
#include <intel-ipsec-mb.h>
#endif

const char *dp_openssl_version(void) {
    return OpenSSL_version(OPENSSL_VERSION);
}

const char *dp_ipsec_mb_version(void) {
#if DP_HAVE_IPSEC_MB
    return imb_get_version_str();
#else
    return "";
#endif
}
