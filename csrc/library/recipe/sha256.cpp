#include "library/recipe/sha256.hpp"

#include <openssl/evp.h>

#include <stdexcept>

namespace spadeline {

struct Sha256::State {
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    ~State() { EVP_MD_CTX_free(context); }
};

namespace {

void expect_success(int result) {
    if (result != 1) throw std::runtime_error("SHA-256: expected libcrypto to compute it, got a failure");
}

}  // namespace

Sha256::Sha256() : state_(std::make_unique<State>()) {
    expect_success(EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr));
}

Sha256::~Sha256() = default;

void Sha256::update(const void* data, size_t size) { expect_success(EVP_DigestUpdate(state_->context, data, size)); }

std::string Sha256::hex() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    expect_success(EVP_DigestFinal_ex(state_->context, digest, &size));
    std::string text;
    for (unsigned int i = 0; i < size; ++i) {
        text += "0123456789abcdef"[digest[i] >> 4];
        text += "0123456789abcdef"[digest[i] & 15];
    }
    return text;
}

}  // namespace spadeline
