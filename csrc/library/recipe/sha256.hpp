// SHA-256, by OpenSSL's libcrypto.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace spadeline {

class Sha256 {
 public:
    Sha256();
    ~Sha256();
    Sha256(const Sha256&) = delete;
    Sha256& operator=(const Sha256&) = delete;

    void update(const void* data, size_t size);
    std::string hex();  // in lower case; ends the hash

 private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace spadeline
