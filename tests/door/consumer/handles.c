/* Handles in every order, wrong arguments, and frames that end with their buffer: handles RECIPE. Exits with 0 if all
 * is as spadeline.h says. Under the address sanitizer it also shows that nothing is read beyond a frame, or left
 * behind. */
#include <spadeline/spadeline.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(what)                                                                        \
    do {                                                                                    \
        if (!(what)) {                                                                      \
            fprintf(stderr, "line %d: %s; last: %s\n", __LINE__, #what, spadeline_error()); \
            exit(2);                                                                        \
        }                                                                                   \
    } while (0)

static const int channels[] = {1, 3, 3, 4, 4};
static uint64_t no_handle[64];

/* Inspects a frame whose buffer ends with its last pixel, and reads all of the result. */
static double inspect(spadeline_inspector* inspector, int64_t height, int64_t width, int64_t gap, int color) {
    const spadeline_result* result = NULL;
    int64_t row = width * channels[color];
    size_t size = (size_t)((height - 1) * (row + gap) + row);
    uint8_t* pixels = malloc(size);
    EXPECT(pixels);
    memset(pixels, 0xAA, size); /* what lies in the gaps has no influence */
    for (int64_t i = 0; i < height * row; ++i) pixels[i / row * (row + gap) + i % row] = (uint8_t)(i * 37 + i / 251);
    int32_t code = spadeline_inspect(inspector, pixels, height, width, row + gap, color, &result);
    free(pixels);
    EXPECT(code == SPADELINE_OK && result && result->struct_size == (int64_t)sizeof *result);
    double sum = result->image_score;
    for (int64_t i = 0; i < result->map_height * result->map_width; ++i) {
        EXPECT(result->lower_map[i] <= result->anomaly_map[i] && result->pred_mask[i] <= 1);
        sum += result->anomaly_map[i];
    }
    for (int64_t i = 0; i < result->grid_height * result->grid_width * result->kappa * 3; ++i)
        EXPECT(result->neighbours[i] >= -1);
    for (int64_t i = 0; i < result->nearest_count; ++i) sum += (double)result->nearest_images[i];
    for (int64_t i = 0; i < result->region_count; ++i) EXPECT(result->regions[i].area > 0);
    return sum;
}

static void frames(spadeline_inspector* inspector) {
    static const int64_t sides[] = {96, 8, 97, 11, 64, 255}; /* of the normal images' proportions */
    for (size_t i = 0; i < sizeof sides / sizeof *sides; ++i)
        for (int color = 0; color < 5; ++color)
            EXPECT(inspect(inspector, sides[i], sides[i], 0, color) ==
                   inspect(inspector, sides[i], sides[i], (int64_t)i * 5 + 1, color));
}

/* Each wrong call has its code, and leaves the inspector as it was. */
static void refusals(const spadeline_recipe* recipe, spadeline_inspector* inspector) {
    static const int64_t wrong[][3] = {
        {0, 96, 0},          {-1, 96, 0},         {7, 96, 0},         {96, 7, 0},        {96, 96, 287},
        {96, 96, -288},      {INT64_MAX, 96, 0},  {96, INT64_MAX, 0}, {INT64_MIN, 8, 0}, {8, INT64_MIN, 0},
        {96, 96, INT64_MIN}, {96, 96, INT64_MAX}, {1LL << 31, 8, 0},  {8, 1LL << 31, 0}, {1LL << 31, 1LL << 31, 0}};
    const spadeline_result* result;
    const char* text;
    uint8_t pixel = 0;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        EXPECT(spadeline_inspect(inspector, &pixel, wrong[i][0], wrong[i][1], wrong[i][2], 1, &result) ==
               SPADELINE_ARGUMENT);
        EXPECT(!result && *spadeline_error() && !strcmp(spadeline_error(), spadeline_inspector_error(inspector)));
    }
    for (int color = -1; color < 6; color += 6)
        EXPECT(spadeline_inspect(inspector, &pixel, 8, 8, 0, color, &result) == SPADELINE_ARGUMENT && !result);
    EXPECT(spadeline_inspect(inspector, NULL, 8, 8, 0, 0, &result) == SPADELINE_ARGUMENT);
    EXPECT(spadeline_inspect(inspector, &pixel, 8, 8, 0, 0, NULL) == SPADELINE_ARGUMENT);
    EXPECT(spadeline_inspect(NULL, &pixel, 8, 8, 0, 0, &result) == SPADELINE_HANDLE);
    EXPECT(spadeline_inspect((spadeline_inspector*)no_handle, &pixel, 8, 8, 0, 0, &result) == SPADELINE_HANDLE);
    EXPECT(spadeline_inspect((spadeline_inspector*)recipe, &pixel, 8, 8, 0, 0, &result) == SPADELINE_HANDLE);
    EXPECT(spadeline_describe((spadeline_recipe*)inspector, &text) == SPADELINE_HANDLE);
    EXPECT(spadeline_describe(recipe, NULL) == SPADELINE_ARGUMENT);
    EXPECT(spadeline_describe_inspector(inspector, NULL) == SPADELINE_ARGUMENT);
    EXPECT(!spadeline_image_name(recipe, -1) && !spadeline_image_name(recipe, INT64_MAX));
    EXPECT(!spadeline_image_name((spadeline_recipe*)no_handle, 0) && spadeline_image_count(NULL) == -1);
    spadeline_free_inspector((spadeline_inspector*)recipe);
    spadeline_free_recipe((spadeline_recipe*)inspector);
    spadeline_free_recipe((spadeline_recipe*)no_handle);
    EXPECT(spadeline_set_deadline(inspector, 0) == SPADELINE_OK && spadeline_set_need(inspector, 3) == SPADELINE_OK);
    inspect(inspector, 96, 96, 0, 1);
    EXPECT(spadeline_set_deadline(inspector, -1) == SPADELINE_OK && spadeline_set_need(inspector, 0) == SPADELINE_OK);
}

int main(int count, char** arguments) {
    spadeline_recipe *recipe = (spadeline_recipe*)no_handle, *again;
    spadeline_inspector *one, *two, *three;
    EXPECT(count == 2 && !*spadeline_error());
    EXPECT(spadeline_load("/nowhere", 0, 0, 0, &recipe) == SPADELINE_RECIPE && !recipe);
    for (int32_t gallery = SPADELINE_GALLERY_MEMORY; gallery <= SPADELINE_GALLERY_MAPPED; ++gallery) {
        EXPECT(!spadeline_load(arguments[1], 0, gallery, 1, &recipe) && !spadeline_load(arguments[1], 0, 0, 0, &again));
        EXPECT(!spadeline_open(recipe, 1, 0, -1, &one) && !spadeline_open(recipe, 1, 0, -1, &two));
        spadeline_free_inspector(one);
        EXPECT(!spadeline_open(recipe, 2, 0, -1, &one) && !spadeline_open(again, 2, 0, -1, &three));
        refusals(recipe, two);
        spadeline_free_recipe(recipe);
        double expected = inspect(one, 96, 96, 0, 1);
        EXPECT(inspect(two, 96, 96, 7, 1) == expected);
        spadeline_free_inspector(one);
        frames(two);
        spadeline_free_inspector(two);
        EXPECT(inspect(three, 96, 96, 0, 1) == expected);
        spadeline_free_inspector(three);
        spadeline_free_recipe(again);
    }
    spadeline_free_inspector(NULL);
    spadeline_free_recipe(NULL);
    return 0;
}
