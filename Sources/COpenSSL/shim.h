#pragma once
#include <openssl/ssl.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

// Identity: what Swift cannot import (variadic functions and function-like macros).
#include <openssl/hmac.h>

static inline EVP_PKEY *skerry_generate_p256(void) { return EVP_EC_gen("P-256"); }

/// Adds one extension in OpenSSL's configuration syntax. Only for values that this project wrote itself.
static inline int skerry_add_extension(X509 *certificate, X509 *issuer, int nid, const char *value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
  X509V3_set_ctx_nodb(&context);
  X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
  if (!extension) return 0;
  int ok = X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
  return ok;
}

/// A list of alternative names; type is GEN_DNS (bytes of the name) or GEN_IPADD (4 or 16 bytes).
static inline GENERAL_NAMES *skerry_names_new(void) { return sk_GENERAL_NAME_new_null(); }
static inline void skerry_names_free(GENERAL_NAMES *names) { GENERAL_NAMES_free(names); }
static inline int skerry_names_count(GENERAL_NAMES *names) { return sk_GENERAL_NAME_num(names); }
static inline int skerry_names_add(GENERAL_NAMES *names, int type, const unsigned char *bytes, int length) {
  GENERAL_NAME *name = GENERAL_NAME_new();
  ASN1_STRING *text = type == GEN_DNS ? ASN1_IA5STRING_new() : ASN1_OCTET_STRING_new();
  if (!name || !text || !ASN1_STRING_set(text, bytes, length)) {
    GENERAL_NAME_free(name);
    ASN1_STRING_free(text);
    return 0;
  }
  GENERAL_NAME_set0_value(name, type, text);
  if (sk_GENERAL_NAME_push(names, name)) return 1;
  GENERAL_NAME_free(name);
  return 0;
}
/// The bytes of one name and its type; NULL for types that are neither DNS nor IP.
static inline const unsigned char *skerry_names_get(GENERAL_NAMES *names, int index, int *type, int *length) {
  GENERAL_NAME *name = sk_GENERAL_NAME_value(names, index);
  const ASN1_STRING *text = (const ASN1_STRING *)GENERAL_NAME_get0_value(name, type);
  if (*type != GEN_DNS && *type != GEN_IPADD) return NULL;
  *length = ASN1_STRING_length(text);
  return ASN1_STRING_get0_data(text);
}
