/* Inspects one frame with a recipe: inspect RECIPE FRAME.pgm|FRAME.ppm. Exits with 1 if it is anomalous, with 2 after
 * an error. */
#include <spadeline/spadeline.h>
#include <stdio.h>
#include <stdlib.h>

int main(int count, char** arguments) {
    long long width = 0, height = 0;
    char kind = 0;
    FILE* file = count == 3 ? fopen(arguments[2], "rb") : NULL;
    if (!file || fscanf(file, "P%c %lld %lld 255", &kind, &width, &height) != 3 || (kind != '5' && kind != '6') ||
        width < 1 || height < 1 || width > 100000 || height > 100000) {
        fputs("usage: inspect RECIPE FRAME.pgm|FRAME.ppm\n", stderr);
        return 2;
    }
    size_t size = (size_t)(width * height) * (kind == '5' ? 1 : 3);
    uint8_t* pixels = malloc(size);
    fgetc(file);
    if (!pixels || fread(pixels, 1, size, file) != size) return 2;
    fclose(file);

    spadeline_recipe* recipe = NULL;
    spadeline_inspector* inspector = NULL;
    const spadeline_result* result = NULL;
    int color = kind == '5' ? SPADELINE_COLOR_GRAY : SPADELINE_COLOR_RGB, label = 2;
    if (spadeline_load(arguments[1], SPADELINE_DEVICE_AUTO, SPADELINE_GALLERY_AUTO, 0, &recipe) ||
        spadeline_open(recipe, 0, SPADELINE_NEED_RECIPE, -1, &inspector) ||
        spadeline_inspect(inspector, pixels, height, width, 0, color, &result)) {
        fprintf(stderr, "%s\n", spadeline_error());
    } else {
        label = result->pred_label;
        printf("%s %.9g\n", label ? "anomalous" : "normal", result->pred_score);
        for (int64_t i = 0; i < result->region_count; ++i)
            printf("region at %lld, %lld: %.9g\n", (long long)result->regions[i].peak_y,
                   (long long)result->regions[i].peak_x, result->regions[i].score);
    }
    spadeline_free_inspector(inspector);
    spadeline_free_recipe(recipe);
    free(pixels);
    return label;
}
