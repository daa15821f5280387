// A session of ONNX Runtime with options for short and even latency, limits of time and memory, and its telemetry off.
// Only this header and the sources of the extractor know ONNX Runtime.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <functional>
#include <memory>
#include <string>

#include "library/recipe/files.hpp"

namespace spadeline {

// The process's environment of ONNX Runtime: made by the first session, gone with the last one.
std::shared_ptr<Ort::Env> runtime_environment();

struct OrtSession {
    std::shared_ptr<Ort::Env> environment;  // outlives the session
    Ort::Session session{nullptr};
};

// Opens a graph. Throws ExtractorError, which begins with `path`.
std::shared_ptr<OrtSession> open_session(const Pages& onnx, const std::string& path, int threads);

// Runs work() in a thread of its own. If it takes longer than an extractor may, calls cancel(), and throws
// ExtractorError. Work that can't be stopped goes on in its thread: it must own all that it uses.
void within_limit(const std::string& path, std::function<void()> work, const std::function<void()>& cancel);

// An error that says what was expected of a graph, and which limit was exceeded or what failed.
[[noreturn]] void refuse(const std::string& path, const std::string& expected, const std::string& reason);

}  // namespace spadeline
