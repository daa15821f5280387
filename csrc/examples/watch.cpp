// Watches a folder for new pictures: watch RECIPE FOLDER [--once]. Prints a line of JSON for each PGM or PPM file, as
// soon as all of it is there: image, pred_label, pred_score, reasons, ms; or image and error. Names are taken for
// UTF-8. Ends at Ctrl-C or SIGTERM with 0. With --once it inspects what is there, and ends as `spadeline predict` does:
// with 0 if all pictures are normal, 1 if one is anomalous, 2 after an error.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <spadeline/spadeline.hpp>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
constexpr auto kPause = std::chrono::milliseconds(20);  // between two looks at the folder
constexpr auto kPatience = std::chrono::seconds(1);  // a file that lacks bytes, and hasn't changed since, is an error

volatile std::sig_atomic_t stopping = 0;

struct Picture {
    std::vector<uint8_t> pixels;
    int64_t height, width;
    spadeline::Color color;
};

// Nothing if bytes are missing, as of a file that is still written. Throws if it can't become a picture.
std::optional<Picture> read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("can't be opened");
    char letter = 0, kind = 0;
    int64_t numbers[3] = {};  // width, height, the greatest value
    file >> letter >> kind;
    for (int64_t& number : numbers) {
        while ((file >> std::ws).peek() == '#') file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
        file >> number;
    }
    file.get();  // one space ends the header
    if (file.eof()) return std::nullopt;
    const auto [width, height, most] = numbers;
    const bool known = letter == 'P' && (kind == '5' || kind == '6') && most == 255;
    if (!file || !known || std::min(width, height) < 1 || std::max(width, height) > 65536)
        throw std::runtime_error("expected a picture P5 or P6 of 8 bits");
    const int64_t bytes = width * height * (kind == '5' ? 1 : 3);
    if (static_cast<int64_t>(fs::file_size(path)) - file.tellg() < bytes) return std::nullopt;
    Picture picture{std::vector<uint8_t>(static_cast<size_t>(bytes)), height, width,
                    kind == '5' ? spadeline::Color::gray : spadeline::Color::rgb};
    if (!file.read(reinterpret_cast<char*>(picture.pixels.data()), bytes)) return std::nullopt;
    return picture;
}

std::string quoted(const std::string& text) {
    std::string json = "\"";
    for (const char letter : text) {
        char escape[8];
        const bool control = static_cast<unsigned char>(letter) < ' ';
        std::snprintf(escape, sizeof escape,
                      control                           ? "\\u%04x"
                      : letter == '"' || letter == '\\' ? "\\%c"
                                                        : "%c",
                      letter);
        json += escape;
    }
    return json + '"';
}

std::string verdict(const spadeline::Result& result, double ms) {
    std::string reasons;
    for (int bit = 0; const char* name : {"map", "image", "exposure", "contrast", "sharpness", "unlike"})
        if (result.has(static_cast<spadeline_reason>(1 << bit++)))
            reasons += (reasons.empty() ? "" : ", ") + quoted(name);
    char numbers[100];
    std::snprintf(numbers, sizeof numbers, "\"pred_label\": %s, \"pred_score\": %.17g, \"ms\": %.2f",
                  result.pred_label() ? "true" : "false", result.pred_score(), ms);
    return numbers + (", \"reasons\": [" + reasons + "]");
}

struct Seen {
    fs::file_time_type written;
    uintmax_t size;
    Clock::time_point since;
    bool done;
};

class Watch {
 public:
    Watch(const char* recipe, fs::path folder, bool once)
        : inspector_(spadeline::Recipe(recipe)), folder_(std::move(folder)), once_(once) {}

    // Looks at the folder once. A file that was written anew is a new picture.
    void look() {
        std::map<fs::path, Seen> there;  // in the order of names
        for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
            std::error_code gone;  // a file that was removed meanwhile is left out
            const std::string kind = entry.path().extension().string();
            if ((kind != ".pgm" && kind != ".ppm") || !entry.is_regular_file(gone)) continue;
            Seen seen{entry.last_write_time(gone), entry.file_size(gone), Clock::now(), false};
            if (gone) continue;
            const auto before = seen_.find(entry.path());
            const bool same =
                before != seen_.end() && before->second.written == seen.written && before->second.size == seen.size;
            there.emplace(entry.path(), same ? before->second : seen);
        }
        seen_ = std::move(there);
        for (auto& [path, seen] : seen_)
            if (!stopping && !seen.done) seen.done = inspect(path, once_ || Clock::now() - seen.since > kPatience);
    }

    int status() const { return status_; }

 private:
    // Returns whether the file needs no further look.
    bool inspect(const fs::path& path, bool last) {
        const Clock::time_point start = Clock::now();
        try {
            const std::optional<Picture> picture = read(path);
            if (!picture && !last) return false;
            if (!picture) throw std::runtime_error("bytes are missing");
            const spadeline::Result result =
                inspector_.inspect({picture->pixels, picture->height, picture->width, picture->color});
            const std::chrono::duration<double, std::milli> passed = Clock::now() - start;
            print(path, verdict(result, passed.count()), result.pred_label());
        } catch (const std::exception& error) {  // of this picture: the next one may be better
            print(path, "\"error\": " + quoted(error.what()), 2);
        }
        return true;
    }

    void print(const fs::path& path, const std::string& fields, int status) {
        std::printf("{\"image\": %s, %s}\n", quoted(path.string()).c_str(), fields.c_str());
        std::fflush(stdout);  // whoever reads the lines waits for them
        status_ = std::max(status_, status);
    }

    spadeline::Inspector inspector_;
    fs::path folder_;
    bool once_;
    std::map<fs::path, Seen> seen_;
    int status_ = 0;
};

}  // namespace

int main(int count, char** arguments) {
    const bool once = count == 4 && std::string(arguments[3]) == "--once";
    if (count != 3 && !once) {
        std::fputs("usage: watch RECIPE FOLDER [--once]\n", stderr);
        return 2;
    }
    for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { stopping = 1; });
    try {
        Watch watch(arguments[1], arguments[2], once);
        for (;;) {
            watch.look();
            if (once) return watch.status();
            if (stopping) return 0;
            std::this_thread::sleep_for(kPause);
        }
    } catch (const std::exception& error) {  // the recipe can't be opened, or the folder can't be read
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
}
