// Inspects frames through libspadeline.so and times them, as benchmarks/embed.py asks: embed RECIPE FRAMES INSPECTORS
// THREADS. FRAMES is a file: each frame's height and width as int64, and its RGB bytes.
//
// It opens so many inspectors of so many threads each, answers "ready", and then each line of standard input:
//
//     need N           what the next inspections need, a spadeline_need. Each inspector warms up with some frames.
//     results FILE     inspects all frames; FILE gets of each the label as a byte, the map, the mask.
//     time I0 I1 …     inspects these frames, the first one untimed; a line for each other one: seconds of the
//                      call, and of its stages prepare, extract, retrieve, match, map.
//     rate SECONDS     all inspectors side by side, each on a thread of its own: frames, and seconds that they took.
//     allocations      inspects all frames: how often memory was allocated, and how often of these by libspadeline.so.
//
// The last line of each answer is "done". After an error it writes one sentence to standard error, and ends with 1.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <memory>
#include <spadeline/spadeline.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "allocations.hpp"

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kWarmUp = 12;  // frames

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Picture {
    int64_t height, width;
    std::vector<uint8_t> pixels;

    spadeline::Frame frame() const { return {pixels, height, width, spadeline::Color::rgb}; }
};

std::vector<Picture> read_frames(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::vector<Picture> pictures;
    int64_t size[2];
    while (file.read(reinterpret_cast<char*>(size), sizeof size)) {
        Picture picture{size[0], size[1], std::vector<uint8_t>(static_cast<size_t>(size[0] * size[1] * 3))};
        file.read(reinterpret_cast<char*>(picture.pixels.data()), static_cast<std::streamsize>(picture.pixels.size()));
        if (!file) break;
        pictures.push_back(std::move(picture));
    }
    if (pictures.empty()) throw std::runtime_error(path + ": expected frames, got none");
    return pictures;
}

class Line {
 public:
    Line(const std::string& recipe_folder, const std::string& frames, int inspectors, int threads)
        : pictures_(read_frames(frames)) {
        const spadeline::Recipe recipe(recipe_folder);
        for (int i = 0; i < inspectors; ++i)
            inspectors_.push_back(
                std::make_unique<spadeline::Inspector>(recipe, spadeline::InspectorOptions{.threads = threads}));
    }

    void answer(std::istringstream& line) {
        std::string command;
        line >> command;
        if (command == "need") {
            int32_t need = 0;
            line >> need;
            for (const auto& inspector : inspectors_) {
                inspector->set_need(static_cast<spadeline::Need>(need));
                inspect(*inspector, kWarmUp);
            }
        } else if (command == "results") {
            std::string path;
            std::getline(line >> std::ws, path);
            write_results(path);
        } else if (command == "time") {
            time_frames(line);
        } else if (command == "rate") {
            double seconds = 0;
            line >> seconds;
            measure_rate(seconds);
        } else if (command == "allocations") {
            start_counting();
            inspect(*inspectors_[0], pictures_.size());
            const Allocations counted = stop_counting();
            std::printf("%lld %lld\n", static_cast<long long>(counted.all), static_cast<long long>(counted.by_library));
        } else {
            throw std::runtime_error("expected need, results, time, rate or allocations, got " + command);
        }
    }

 private:
    void inspect(spadeline::Inspector& inspector, size_t most) {
        for (size_t i = 0; i < std::min(most, pictures_.size()); ++i) inspector.inspect(pictures_[i].frame());
    }

    void write_results(const std::string& path) {
        std::ofstream file(path, std::ios::binary);
        const auto write = [&](auto values) {
            file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size_bytes()));
        };
        for (const Picture& picture : pictures_) {
            const spadeline::Result result = inspectors_[0]->inspect(picture.frame());
            file.put(result.pred_label() ? 1 : 0);
            write(result.anomaly_map());
            write(result.pred_mask());
        }
        if (!file.flush()) throw std::runtime_error(path + ": can't be written");
    }

    void time_frames(std::istringstream& line) {
        size_t index = 0;
        line >> index;
        inspectors_[0]->inspect(pictures_.at(index).frame());
        std::vector<double> figures;  // printed at the end, so that nothing runs between two frames
        while (line >> index) {
            const spadeline::Frame frame = pictures_.at(index).frame();
            const Clock::time_point start = Clock::now();
            const spadeline::Result result = inspectors_[0]->inspect(frame);
            const double whole = seconds_since(start);
            const spadeline_result& all = result.all();
            figures.insert(figures.end(),
                           {whole, all.prepare_s, all.extract_s, all.retrieve_s, all.match_s, all.map_s});
        }
        for (size_t i = 0; i < figures.size(); ++i) std::printf("%.9f%c", figures[i], i % 6 == 5 ? '\n' : ' ');
    }

    // From the start of all threads to the end of the last one's last frame.
    void measure_rate(double seconds) {
        std::atomic<int64_t> frames = 0;
        std::atomic<bool> begun = false;
        std::vector<std::exception_ptr> failures(inspectors_.size());
        std::vector<std::thread> threads;
        for (size_t number = 0; number < inspectors_.size(); ++number) {
            threads.emplace_back([&, number] {
                begun.wait(false);
                const Clock::time_point start = Clock::now();
                try {
                    for (size_t i = number; seconds_since(start) < seconds; ++i) {
                        inspectors_[number]->inspect(pictures_[i % pictures_.size()].frame());
                        ++frames;
                    }
                } catch (...) {
                    failures[number] = std::current_exception();
                }
            });
        }
        const Clock::time_point start = Clock::now();
        begun = true;
        begun.notify_all();
        for (std::thread& thread : threads) thread.join();
        const double taken = seconds_since(start);
        for (const std::exception_ptr& failure : failures)
            if (failure) std::rethrow_exception(failure);
        std::printf("%lld %.9f\n", static_cast<long long>(frames), taken);
    }

    const std::vector<Picture> pictures_;
    std::vector<std::unique_ptr<spadeline::Inspector>> inspectors_;
};

void done(const char* text) {
    std::puts(text);
    std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
    try {
        if (count != 5) throw std::runtime_error("expected embed RECIPE FRAMES INSPECTORS THREADS");
        Line line(arguments[1], arguments[2], std::stoi(arguments[3]), std::stoi(arguments[4]));
        done("ready");
        for (std::string text; std::getline(std::cin, text);) {
            std::istringstream words(text);
            line.answer(words);
            done("done");
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
