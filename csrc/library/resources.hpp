// What this process may use of the machine, as engine/resources.py finds it out.
#pragma once

#include <cstdint>
#include <string>

namespace spadeline {

inline constexpr int64_t kMostThreads = 1024;

// Processors that the process may run on, or the quota of its control groups if it is less.
int processors();
// Bytes that can be allocated without swapping, those of caches that can be dropped included.
int64_t available_memory();
// A number of bytes as error texts show it.
std::string megabytes(int64_t bytes);
// The instruction set that SPADELINE_INSTRUCTION_SET names, or "auto".
std::string asked_instruction_set();

}  // namespace spadeline
