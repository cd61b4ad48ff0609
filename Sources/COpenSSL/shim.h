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

// Transport: macros, and stacks, whose functions are macros.

static inline SSL_CTX *skerry_context_new(int server) {
  SSL_CTX *context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
  if (!context) return NULL;
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  // What a stranger may make us hold in a handshake; a leaf with its root has about 1,200 bytes.
  SSL_CTX_set_max_cert_list(context, 16 * 1024);
  if (SSL_CTX_set_num_tickets(context, 0) != 1 ||
      SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set1_groups_list(context, "X25519:P-256") != 1 ||
      SSL_CTX_set_ciphersuites(
          context, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384") != 1) {
    SSL_CTX_free(context);
    return NULL;
  }
  return context;
}
static inline long skerry_add_chain(SSL *ssl, X509 *certificate) { return SSL_add1_chain_cert(ssl, certificate); }
static inline long skerry_set_store(SSL_CTX *context, X509_STORE *store) {
  return SSL_CTX_set1_verify_cert_store(context, store);
}
static inline long skerry_set_server_name(SSL *ssl, const char *name) { return SSL_set_tlsext_host_name(ssl, name); }
static inline void skerry_retry_read(BIO *bio) { BIO_set_retry_read(bio); }
static inline void skerry_clear_retry(BIO *bio) { BIO_clear_retry_flags(bio); }

/// A context and a session that established server sessions share, so that they can let go of what only their handshake
/// needed. `ssl` is one whose handshake is done; NULL on failure.
static inline SSL_CTX *skerry_established_context(SSL *ssl) {
  SSL_CTX *context = SSL_CTX_new(SSL_get_ssl_method(ssl));
  if (context) SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  return context;
}
static inline SSL_SESSION *skerry_established_session(SSL *ssl) {
  SSL_SESSION *session = SSL_SESSION_new();
  if (!session || SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) != 1 ||
      SSL_SESSION_set_cipher(session, SSL_get_current_cipher(ssl)) != 1) {
    SSL_SESSION_free(session);
    return NULL;
  }
  return session;
}
/// Frees the peer's parsed certificates and its own session object: about 6 KiB of 19. SSL_set_session sets a session
/// up anew if its method is not the context's, which would end it; so the context has to be of the negotiated method.
/// The keys in use are elsewhere: data, key updates and the end go on as before. 0 if nothing was done.
static inline int skerry_forget_handshake(SSL *ssl, SSL_CTX *context, SSL_SESSION *session) {
  if (SSL_get_ssl_method(ssl) != SSL_CTX_get_ssl_method(context)) return 0;
  STACK_OF(X509) *chain = SSL_get0_verified_chain(ssl);
  while (chain && sk_X509_num(chain) > 0) X509_free(sk_X509_pop(chain));
  if (SSL_set_SSL_CTX(ssl, context) != context || SSL_set_session(ssl, session) != 1) return 0;
  SSL_set_verify_result(ssl, X509_V_OK);
  return 1;
}

static inline int skerry_presented_count(X509_STORE_CTX *context) {
  return sk_X509_num(X509_STORE_CTX_get0_untrusted(context));
}
static inline X509 *skerry_presented(X509_STORE_CTX *context, int index) {
  return sk_X509_value(X509_STORE_CTX_get0_untrusted(context), index);
}
/// Verifies the presented chain with `anchor` as the only trusted certificate.
static inline int skerry_verify_to(X509_STORE_CTX *context, X509 *anchor) {
  STACK_OF(X509) *trusted = sk_X509_new_null();
  if (!trusted || !sk_X509_push(trusted, anchor)) {
    sk_X509_free(trusted);
    return 0;
  }
  X509_STORE_CTX_set0_trusted_stack(context, trusted);
  int verified = X509_verify_cert(context);
  X509_STORE_CTX_set0_trusted_stack(context, NULL);
  sk_X509_free(trusted);
  return verified;
}

/// A piece of memory.
struct skerry_piece { const void *start; size_t count; };
#define SKERRY_WRITE_PIECES 11

/// Tells what a write of an established session touches, to be fetched ahead of it; answers how many pieces it told. It
/// is spread over an `SSL`, whose layout is OpenSSL's own business: where it is another one than the 3.0 series', which is
/// recognised by the version and by where the session is, nothing but the first lines are told. Nothing depends on it but
/// time.
static inline int skerry_write_pieces(const SSL *ssl, struct skerry_piece *out) {
  static const struct { unsigned short start, count; } used[] = {
      {0x000, 0xb0}, {0x180, 0x30}, {0x2e0, 0x08}, {0x4c0, 0x08}, {0x868, 0xb8},
      {0x9e8, 0xb8}, {0xba4, 0x04}, {0xc70, 0x68}, {0x1cb8, 0xb0},
  };
  const char *base = (const char *)ssl;
  int count = 0;
  SSL_SESSION *session = SSL_get_session(ssl);
  int known = session && sizeof(void *) == 8 && OPENSSL_version_major() == 3 && OPENSSL_version_minor() == 0 &&
              *(SSL_SESSION *const *)(base + 0x918) == session;
  for (size_t index = 0; index < (known ? sizeof(used) / sizeof(*used) : 1); index++)
    out[count++] = (struct skerry_piece){base + used[index].start, used[index].count};
  // The cipher's context, and in it the provider's, which has the keys and their tables.
  const char *cipher = known ? *(const char *const *)(base + 0x878) : NULL;
  if (cipher) {
    out[count++] = (struct skerry_piece){cipher, 0xb8};
    out[count++] = (struct skerry_piece){*(const char *const *)(cipher + 0xa8), 0x3b8};
  }
  return count;
}
