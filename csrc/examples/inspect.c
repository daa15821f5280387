/* Inspects a picture: inspect RECIPE PICTURE.ppm. Exits with 1 if it is anomalous, with 2 after an error. */
#include <spadeline/spadeline.h>
#include <stdio.h>

static uint8_t pixels[4096 * 4096 * 3]; /* a greater picture is refused */

int main(int count, char** arguments) {
    spadeline_recipe* recipe = NULL;
    spadeline_inspector* inspector = NULL;
    const spadeline_result* result = NULL;
    int width, height, most, status = 2;
    FILE* file = count == 3 ? fopen(arguments[2], "rb") : NULL;
    if (!file || fscanf(file, "P6 %4d %4d %d%*c", &width, &height, &most) != 3 || width < 1 || width > 4096 ||
        height < 1 || height > 4096 || most != 255 ||
        fread(pixels, 3 * (size_t)width, height, file) != (size_t)height) {
        fputs("usage: inspect RECIPE PICTURE.ppm\n", stderr);
    } else if (spadeline_load(arguments[1], SPADELINE_DEVICE_AUTO, SPADELINE_GALLERY_AUTO, 0, &recipe) ||
               spadeline_open(recipe, 0, SPADELINE_NEED_RECIPE, -1, &inspector) ||
               spadeline_inspect(inspector, pixels, height, width, 0, SPADELINE_COLOR_RGB, &result)) {
        fprintf(stderr, "%s\n", spadeline_error());
    } else {
        status = result->pred_label;
        printf("%s %.9g\n", status ? "anomalous" : "normal", result->pred_score);
        for (const spadeline_region *one = result->regions, *end = one + result->region_count; one < end; ++one)
            printf("region at %d, %d: %.9g\n", (int)one->peak_y, (int)one->peak_x, one->score);
    }
    spadeline_free_inspector(inspector);
    spadeline_free_recipe(recipe);
    return status;
}
