/* The C interface of spadeline: load a recipe, open an inspector, inspect frames, read the results.
 *
 *     spadeline_recipe* recipe;
 *     spadeline_inspector* inspector;
 *     const spadeline_result* result;
 *     if (spadeline_load("recipes/hazelnut", SPADELINE_DEVICE_AUTO, SPADELINE_GALLERY_AUTO, 0, &recipe) ||
 *         spadeline_open(recipe, 0, SPADELINE_NEED_RECIPE, -1, &inspector) ||
 *         spadeline_inspect(inspector, pixels, height, width, pitch, SPADELINE_COLOR_BGR, &result))
 *         puts(spadeline_error());
 *
 * Recipes are made by Python: `spadeline fit`. Labels, scores, maps and regions equal Python's to the last bit if both
 * run the same ONNX Runtime.
 *
 * Errors. Each function that can fail returns SPADELINE_OK, which is 0, or a code. spadeline_error() then has one
 * sentence about it. No C++ exception leaves the library, and it never ends the process or prints.
 *
 * Owners. What a function returns by a pointer belongs to the library, and the function's text says how long it may be
 * read. Recipes and inspectors are freed by the caller, in any order. The library keeps no pointer that it was given
 * after the call returns.
 *
 * Threads. Different handles may be used from different threads at the same time; a recipe may be used from all threads
 * at the same time. An inspector takes one call at a time, from whichever thread: a call that comes during another one
 * returns SPADELINE_BUSY and changes nothing. Nobody may use a handle while, or after, it is freed. In a fork
 * of the process that made it, a handle is none: calls return SPADELINE_HANDLE, and freeing it does nothing. Load the
 * recipe there. Don't fork during a call of another thread that loads, opens or frees.
 *
 * dlclose() leaves the library in the process, since threads may still run in it. Several versions of it can live in
 * one process. */
#ifndef SPADELINE_H
#define SPADELINE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define SPADELINE_API __declspec(dllimport)
#else
#define SPADELINE_API __attribute__((visibility("default")))
#endif

/* The number of this interface. It grows with each change that a compiled caller would notice. New fields at the end of
 * spadeline_result, new functions and new codes are none. */
#define SPADELINE_ABI 1

typedef struct spadeline_recipe spadeline_recipe;       /* a loaded recipe; never changes */
typedef struct spadeline_inspector spadeline_inspector; /* one line's inspections with a recipe */

/* What a function returns. A new version may have further codes. */
typedef enum spadeline_code {
    SPADELINE_OK = 0,
    SPADELINE_ARGUMENT = 1,  /* an argument, or a frame, that can't be used */
    SPADELINE_HANDLE = 2,    /* null, or no handle of the expected kind */
    SPADELINE_BUSY = 3,      /* the inspector is in use by another call */
    SPADELINE_RECIPE = 4,    /* no recipe, a damaged one, or one that can't be inspected with */
    SPADELINE_EXTRACTOR = 5, /* the extractor can't be loaded, breaks its contract, or fails */
    SPADELINE_DEVICE = 6,    /* a device that isn't there */
    SPADELINE_MEMORY = 7,    /* memory is short */
    SPADELINE_FAILED = 8     /* anything else: spadeline_error() tells */
} spadeline_code;

typedef enum spadeline_device {
    SPADELINE_DEVICE_AUTO = 0, /* the best there is; so far this is the CPU */
    SPADELINE_DEVICE_CPU = 1,
    SPADELINE_DEVICE_CUDA = 2 /* SPADELINE_DEVICE: this library inspects on the CPU alone */
} spadeline_device;

typedef enum spadeline_gallery {
    SPADELINE_GALLERY_AUTO = 0,   /* in memory if it takes at most half of what is available; else mapped */
    SPADELINE_GALLERY_MEMORY = 1, /* read into memory, the SHA-256 of each file compared */
    SPADELINE_GALLERY_MAPPED = 2  /* left in its files, which must never be written into: shared by processes */
} spadeline_gallery;

/* What a result must be exact in. The less is needed, the sooner the search ends. */
typedef enum spadeline_need {
    SPADELINE_NEED_RECIPE = 0, /* what the recipe's settings say */
    SPADELINE_NEED_MAP = 1,    /* everything */
    SPADELINE_NEED_MASK = 2,   /* label, mask, and the regions' boxes and areas */
    SPADELINE_NEED_LABEL = 3   /* the label */
} spadeline_need;

/* What the bytes of a pixel mean. Alpha is left out. */
typedef enum spadeline_color {
    SPADELINE_COLOR_GRAY = 0,
    SPADELINE_COLOR_RGB = 1,
    SPADELINE_COLOR_BGR = 2,
    SPADELINE_COLOR_RGBA = 3,
    SPADELINE_COLOR_BGRA = 4
} spadeline_color;

/* Why a frame is anomalous: bits of spadeline_result.reasons. */
typedef enum spadeline_reason {
    SPADELINE_REASON_MAP = 1,        /* the anomaly map is above theta */
    SPADELINE_REASON_IMAGE = 2,      /* the image score is above tau */
    SPADELINE_REASON_EXPOSURE = 4,   /* far darker or brighter than all normal images */
    SPADELINE_REASON_CONTRAST = 8,   /* far less contrast, as of a frame without a part */
    SPADELINE_REASON_SHARPNESS = 16, /* far less sharp */
    SPADELINE_REASON_UNLIKE = 32     /* like none of the normal images */
} spadeline_reason;

/* One 8-connected anomalous area, in pixels of the frame. */
typedef struct spadeline_region {
    int64_t area;                     /* pixels of the anomaly map in it */
    int64_t top, left, bottom, right; /* its box, half-open */
    int64_t peak_y, peak_x;           /* where its score is highest */
    double score;                     /* the map's value there */
} spadeline_region;

#define SPADELINE_MOST_LEVELS 4

/* One frame's result. The library fills it; callers only read it. A decided result is exact in what `need` says, and
 * image_score and nearest_images are always exact. The rest follows from an upper bound of the map, so that what isn't
 * proven to be normal counts as anomalous. */
typedef struct spadeline_result {
    int64_t struct_size;           /* bytes that this library fills: fields beyond them don't exist */
    int32_t pred_label;            /* 1: anomalous; 0: normal */
    uint32_t reasons;              /* bits of spadeline_reason; 0 if it is normal */
    int32_t need;                  /* spadeline_need, never SPADELINE_NEED_RECIPE */
    int32_t decided;               /* 0: the deadline ended the search, and the frame was judged by the upper bound */
    double pred_score;             /* above its threshold exactly if pred_label is 1; always finite */
    double image_score;            /* anomalous above tau */
    double map_score;              /* the map's maximum; anomalous above theta */
    int64_t map_height, map_width; /* of the extractor's input */
    const float* anomaly_map;      /* (map_height, map_width); 0 where ignored; an upper bound if it isn't exact */
    const float* lower_map;        /* likewise; a lower bound of each pixel */
    const uint8_t* pred_mask;      /* likewise; 1 where the map is above theta, else 0 */
    int64_t region_count;
    const spadeline_region* regions; /* the mask's, highest score first */
    int64_t grid_height, grid_width, kappa;
    const int32_t* neighbours; /* (grid_height, grid_width, kappa, 3) as image, y, x: the normal pixels that each one of
                                  the finest level matched; -1 where nothing was searched */
    int64_t nearest_count;
    const int64_t* nearest_images;                           /* the normal images that were searched, nearest first */
    double prepare_s, extract_s, retrieve_s, match_s, map_s; /* seconds by stage */
    /* What the matcher had to compute: pairs of the coarsest level's pixels; pairs of each level's that no bound ruled
     * out, finest first; distances in float64; cells left to the dense path; passes over the images. */
    int64_t pairs, passed[SPADELINE_MOST_LEVELS], exact, guarded_cells, passes;
    const char* warning; /* null, or what the recipe wants to be warned of: the frame's proportions */
} spadeline_result;

/* This library's version, as in "0.1.0", and the number of its interface, which should be SPADELINE_ABI. The text lives
 * as long as the library. Any thread. */
SPADELINE_API const char* spadeline_version(void);
SPADELINE_API int32_t spadeline_abi(void);

/* What was wrong with the calling thread's last call that failed; "" if none did. Valid until this thread's next call
 * that fails. Any thread. */
SPADELINE_API const char* spadeline_error(void);

/* Loads a recipe: reads and checks its files. It takes the time of reading and hashing them, and blocks.
 *
 * folder   the recipe's folder.
 * device   a spadeline_device.
 * gallery  a spadeline_gallery.
 * verify   not 0: also read mapped files through, and check that all features are finite and that the stored scores
 *          give the thresholds.
 * recipe   gets the handle, or null if the call fails. Free it with spadeline_free_recipe().
 *
 * Any thread. SPADELINE_ARGUMENT, _RECIPE, _DEVICE, _MEMORY, _FAILED. */
SPADELINE_API int32_t spadeline_load(const char* folder, int32_t device, int32_t gallery, int32_t verify,
                                     spadeline_recipe** recipe);

/* Frees a recipe; null is allowed. Inspectors that were opened with it keep what they need. */
SPADELINE_API void spadeline_free_recipe(spadeline_recipe* recipe);

/* Describes a recipe as JSON: settings, thresholds, shapes, limits of the frame check, where the gallery lies. The text
 * lives as long as the handle. Any thread. SPADELINE_ARGUMENT, _HANDLE. */
SPADELINE_API int32_t spadeline_describe(const spadeline_recipe* recipe, const char** json);

/* The number of normal images; -1 for a handle that is none. Any thread. */
SPADELINE_API int64_t spadeline_image_count(const spadeline_recipe* recipe);

/* The name of a normal image as `fit` found it, in the bytes of a file name; null for a handle that is none, or an
 * index that isn't from 0 to the number of images - 1. The text lives as long as the handle. Any thread. */
SPADELINE_API const char* spadeline_image_name(const spadeline_recipe* recipe, int64_t index);

/* Opens an inspector. Several inspectors may be open with one recipe: they share its gallery, and those with the same
 * number of threads share the extractor's weights. For a line with several cameras, open one with one thread for each
 * camera. The first one with a number of threads loads the extractor and tries it out, which blocks.
 *
 * threads     of the extractor and the matcher: 1 to 1024; 0: the processors that this process may use.
 * need        a spadeline_need.
 * deadline_s  seconds from the beginning of each inspection, 0 or more, after which the search ends. What isn't known
 * by then counts as anomalous, so a deadline can cause a false alarm, but never a miss. Nothing but the search is cut
 * short. Negative: there is no deadline. inspector   gets the handle, or null if the call fails. Free it with
 * spadeline_free_inspector().
 *
 * Any thread. SPADELINE_ARGUMENT, _HANDLE, _RECIPE, _EXTRACTOR, _MEMORY, _FAILED. */
SPADELINE_API int32_t spadeline_open(const spadeline_recipe* recipe, int32_t threads, int32_t need, double deadline_s,
                                     spadeline_inspector** inspector);

/* Frees an inspector and its last result; null is allowed. */
SPADELINE_API void spadeline_free_inspector(spadeline_inspector* inspector);

/* Describes an inspector as JSON: what runs where, its threads and instruction set, ONNX Runtime's version. The text
 * lives as long as the handle. One call at a time. SPADELINE_ARGUMENT, _HANDLE, _BUSY. */
SPADELINE_API int32_t spadeline_describe_inspector(spadeline_inspector* inspector, const char** json);

/* Changes what the following inspections need, or their deadline, as for spadeline_open. One call at a time.
 * SPADELINE_ARGUMENT, _HANDLE, _BUSY. */
SPADELINE_API int32_t spadeline_set_need(spadeline_inspector* inspector, int32_t need);
SPADELINE_API int32_t spadeline_set_deadline(spadeline_inspector* inspector, double deadline_s);

/* Inspects one frame. From the second frame of a size on, this library allocates nothing; ONNX Runtime may.
 *
 * pixels         8-bit, `height` rows of `width` pixels, each row without gaps.
 * height, width  at least 8 pixels each.
 * pitch          bytes from one row to the next, no less than a row has; 0: rows follow each other without gaps.
 * color          a spadeline_color: 1, 3 or 4 bytes a pixel.
 * result         gets the result, or null if the call fails. It, and all that it points to, is valid until the
 *                inspector's next inspection, or until the inspector is freed.
 *
 * A frame that can't be judged is an error, never normal. After an error the inspector can be used on.
 * One call at a time. SPADELINE_ARGUMENT, _HANDLE, _BUSY, _EXTRACTOR, _MEMORY, _FAILED. */
SPADELINE_API int32_t spadeline_inspect(spadeline_inspector* inspector, const uint8_t* pixels, int64_t height,
                                        int64_t width, int64_t pitch, int32_t color, const spadeline_result** result);

/* What was wrong with the inspector's last call that failed; "" if none did, or if the handle is none. Valid until its
 * next call. One call at a time. */
SPADELINE_API const char* spadeline_inspector_error(const spadeline_inspector* inspector);

#ifdef __cplusplus
}
#endif

#endif
