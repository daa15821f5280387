#include "library/session.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <future>
#include <mutex>
#include <string_view>
#include <thread>

#include "library/errors.hpp"
#include "library/extractor.hpp"
#include "library/recipe/text.hpp"
#include "matcher/cpu/kernels.hpp"

namespace spadeline {
namespace {

constexpr const char *kSeconds = "SPADELINE_EXTRACTOR_SECONDS", *kBytes = "SPADELINE_EXTRACTOR_BYTES";
constexpr double kDefaultSeconds = 120;
constexpr double kDefaultBytes = 2147483648.0;  // in addition to the graph's weights
constexpr std::chrono::seconds kGrace{5};       // to wait for a call that was told to stop
constexpr size_t kLongestReason = 600;
// Threads that spin for about the time that it takes to wake one: see engine/extract/session.py.
constexpr const char* kSpinUs = "30";
constexpr int kFirstWithSpinDuration = 26;  // 1.26
// protobuf: field 1 is "location", and field 2, the other file's name, follows.
constexpr std::string_view kLocation("\x0a\x08location\x12", 11);

double given(const char* variable, double otherwise) {
    const char* text = std::getenv(variable);
    if (!text) return otherwise;
    char* end = nullptr;
    const double number = std::strtod(text, &end);
    if (end == text || *end != '\0' || !(number >= 1 && number <= 0x1p62))
        throw InputError(std::string(variable) + ": expected a number of 1 or more, got " + shown(std::string(text)));
    return number;
}

int minor_version() {
    const std::string version = runtime_version();
    const size_t point = version.find('.');
    return version.rfind("1.", 0) == 0 ? std::atoi(version.c_str() + point + 1) : 1000;
}

// Whitespace is made single spaces. A long message is shortened in the middle: the reason may stand at its beginning or
// at its end.
std::string tidied(const std::string& message) {
    std::string text;
    for (const char c : message) {
        const bool space = std::string_view(" \t\r\n").find(c) != std::string_view::npos;
        if (!space) text += c;
        if (space && !text.empty() && text.back() != ' ') text += ' ';
    }
    while (!text.empty() && (text.back() == ' ' || text.back() == '.')) text.pop_back();
    if (text.size() > kLongestReason)
        text = text.substr(0, kLongestReason / 3) + " … " + text.substr(text.size() - kLongestReason * 2 / 3);
    return text.empty() ? "no reason" : text;
}

// Gives the session that is made next an arena of its own, of limited size. An older ONNX Runtime has one arena for all
// sessions of a process, or none.
void limit_memory(Ort::Env& environment, Ort::SessionOptions& options) {
    const auto most = static_cast<size_t>(given(kBytes, kDefaultBytes));
    try {
        const Ort::ArenaCfg limit(most, -1, -1, -1);
        environment.CreateAndRegisterAllocator(Ort::MemoryInfo("Cpu", OrtArenaAllocator, 0, OrtMemTypeDefault), limit);
    } catch (const Ort::Exception&) {
        return;
    }
    options.AddConfigEntry("session.use_env_allocators", "1");
}

Ort::SessionOptions session_options(int threads) {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(threads);
    options.SetInterOpNumThreads(1);
    options.SetExecutionMode(ORT_SEQUENTIAL);
    options.SetGraphOptimizationLevel(ORT_ENABLE_ALL);
    options.SetLogSeverityLevel(ORT_LOGGING_LEVEL_FATAL);  // everything else arrives as an exception
    // Without VNNI, an int8 graph's products overflow 16 bits on x86, so they are computed exactly there.
    const auto sets = available_kernels();
    if (std::none_of(sets.begin(), sets.end(),
                     [](const Kernels* k) { return std::string_view(k->name).find("vnni") != std::string_view::npos; }))
        options.AddConfigEntry("session.x64quantprecision", "1");
    if (minor_version() >= kFirstWithSpinDuration) {
        options.AddConfigEntry("session.intra_op.spin_duration_us", kSpinUs);
    } else {
        options.AddConfigEntry("session.intra_op.allow_spinning", "0");
    }
    options.AddConfigEntry("session.inter_op.allow_spinning", "0");
    return options;
}

void check_version(const std::string& path) {
    if (!OrtGetApiBase()->GetApi(ORT_API_VERSION))
        throw ExtractorError(path + ": expected ONNX Runtime 1." + std::to_string(ORT_API_VERSION) +
                             " or a later one, got " + runtime_version());
}

// What all sessions of a process share. A fork makes its own: the locks may have been held when it was made. It is
// never freed, since a session that can't be stopped may still be opening when the process ends.
struct Shared {
    const pid_t process = getpid();
    std::mutex opening;  // an allocator is registered for the session that is made next
    std::mutex turn;     // for the environment
    std::weak_ptr<Ort::Env> environment;
};

Shared& shared_by_sessions() {
    static std::atomic<Shared*> current = nullptr;
    Shared* found = current.load();
    while (!found || found->process != getpid()) {
        auto own = std::make_unique<Shared>();
        if (current.compare_exchange_strong(found, own.get())) found = own.release();
    }
    return *found;
}

}  // namespace

std::string runtime_version() { return OrtGetApiBase()->GetVersionString(); }

std::shared_ptr<Ort::Env> runtime_environment() {
    Shared& shared = shared_by_sessions();
    const std::lock_guard lock(shared.turn);
    std::shared_ptr<Ort::Env> environment = shared.environment.lock();
    if (!environment) {
        // From 1.29 on, ONNX Runtime writes a device id and events below the home directory, unless this variable is
        // set when its environment is made. If it is set already, its value stays.
        setenv("ORT_DISABLE_TELEMETRY", "1", 0);
        environment = std::make_shared<Ort::Env>(ORT_LOGGING_LEVEL_FATAL, "spadeline");
        environment->DisableTelemetryEvents();
        shared.environment = environment;
    }
    return environment;
}

void refuse(const std::string& path, const std::string& expected, const std::string& reason) {
    if (reason.find("is smaller than requested bytes") != std::string::npos)  // its words where its arena may not grow
        throw ExtractorError(path + ": expected " + expected + " in " +
                             std::to_string(static_cast<int64_t>(given(kBytes, kDefaultBytes))) +
                             " bytes of memory, got one that asks for more: " + kBytes + " allows more");
    throw ExtractorError(path + ": expected " + expected + ", got: " + tidied(reason));
}

void within_limit(const std::string& path, std::function<void()> work, const std::function<void()>& cancel) {
    const double seconds = given(kSeconds, kDefaultSeconds);
    const auto task = std::make_shared<std::packaged_task<void()>>(std::move(work));
    std::future<void> outcome = task->get_future();
    std::thread thread([task] { (*task)(); });
    if (outcome.wait_for(std::chrono::duration<double>(std::min(seconds, 1e9))) != std::future_status::ready) {
        cancel();
        const bool stopped = outcome.wait_for(kGrace) == std::future_status::ready;
        stopped ? thread.join() : thread.detach();
        char limit[32];
        std::snprintf(limit, sizeof limit, "%g", seconds);
        throw ExtractorError(path + ": expected a graph that loads and runs within " + limit +
                             " s, got one that takes longer: " + kSeconds + " allows more");
    }
    thread.join();
    outcome.get();
}

std::shared_ptr<OrtSession> open_session(const Pages& onnx, const std::string& path, int threads) {
    check_version(path);
    const std::string_view bytes(reinterpret_cast<const char*>(onnx.data()), static_cast<size_t>(onnx.size()));
    if (bytes.find(kLocation) != std::string_view::npos)
        throw ExtractorError(path +
                             ": expected one file, got one with external data; merge it: onnx.save(onnx.load(path), "
                             "path)");
    struct Opening {  // outlives this call if the graph can't be stopped
        std::string bytes;
        OrtSession opened;
        Ort::SessionOptions options{nullptr};
    };
    const std::lock_guard lock(shared_by_sessions().opening);
    const auto opening = std::make_shared<Opening>();
    opening->bytes = bytes;
    try {
        opening->opened.environment = runtime_environment();
        opening->options = session_options(threads);
        limit_memory(*opening->opened.environment, opening->options);
        within_limit(
            path,
            [opening] {
                opening->opened.session = Ort::Session(*opening->opened.environment, opening->bytes.data(),
                                                       opening->bytes.size(), opening->options);
            },
            [opening] {
#if ORT_API_VERSION >= 22
                opening->options.SetLoadCancellationFlag(true);
#endif
            });
    } catch (const Ort::Exception& error) {
        refuse(path, "a file that ONNX Runtime loads", error.what());
    }
    return std::make_shared<OrtSession>(std::move(opening->opened));
}

}  // namespace spadeline
