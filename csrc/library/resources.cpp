#include "library/resources.hpp"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

namespace spadeline {
namespace {

namespace fs = std::filesystem;

// The folders of the process's control group (version 2) and of each group above it.
std::vector<fs::path> control_groups() {
    std::vector<fs::path> folders;
    std::ifstream own("/proc/self/cgroup");
    for (std::string line; std::getline(own, line);) {
        if (line.rfind("0::", 0) != 0) continue;
        const fs::path root = "/sys/fs/cgroup";
        fs::path folder = root / fs::path(line.substr(3)).relative_path();
        for (; folder != root && folder.has_relative_path(); folder = folder.parent_path()) folders.push_back(folder);
        folders.push_back(root);
        break;
    }
    return folders;
}

// The number after a key at the beginning of a line; -1: none.
int64_t number_after(const fs::path& file, const std::string& key) {
    std::ifstream lines(file);
    for (std::string line; std::getline(lines, line);) {
        if (line.rfind(key, 0) != 0) continue;
        std::istringstream rest(line.substr(key.size()));
        int64_t number = -1;
        return rest >> number ? number : -1;
    }
    return -1;
}

int available_processors() {
    // More processors than a cpu_set_t holds need a larger set.
    for (int size = 1024; size <= 1 << 20; size *= 4) {
        cpu_set_t* set = CPU_ALLOC(size);
        const bool known = sched_getaffinity(0, CPU_ALLOC_SIZE(size), set) == 0;
        const int count = known ? CPU_COUNT_S(CPU_ALLOC_SIZE(size), set) : 0;
        CPU_FREE(set);
        if (known) return count;
    }
    return 1;
}

}  // namespace

int processors() {
    double granted = available_processors();
    for (const fs::path& folder : control_groups()) {
        std::ifstream limit(folder / "cpu.max");
        double quota = 0, period = 0;
        if (limit >> quota >> period) granted = std::min(granted, quota / period);  // the quota "max" is no number
    }
    return std::clamp(static_cast<int>(std::ceil(granted)), 1, static_cast<int>(kMostThreads));
}

int64_t available_memory() {
    int64_t available = std::max<int64_t>(number_after("/proc/meminfo", "MemAvailable:"), 0) * 1024;
    for (const fs::path& folder : control_groups()) {
        const int64_t limit = number_after(folder / "memory.max", "");  // "max" is no number
        if (limit < 0) continue;
        const int64_t used = number_after(folder / "memory.current", "");
        const int64_t cached = std::max<int64_t>(number_after(folder / "memory.stat", "inactive_file "), 0);
        available = std::min(available, std::max<int64_t>(limit - used + cached, 0));
    }
    return available;
}

std::string megabytes(int64_t bytes) { return std::to_string((bytes + 500'000) / 1'000'000) + " MB"; }

std::string asked_instruction_set() {
    const char* name = std::getenv("SPADELINE_INSTRUCTION_SET");
    return name ? name : "auto";
}

}  // namespace spadeline
