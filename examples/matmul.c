/* c = a b, square, row-major. The compiler is told SIZE, the tiles (TILE_i, TILE_j, TILE_k, which
   divide SIZE) and the order of the loops within a tile (FIRST, SECOND, THIRD: i, j, k). */

#include <string.h>

#define TILES(x) for (int x##0 = 0; x##0 < SIZE; x##0 += TILE_##x)
#define WITHIN(x) for (int x = x##0; x < x##0 + TILE_##x; x++)
#define EACH(x) WITHIN(x)

void matmul(const float *restrict a, const float *restrict b, float *restrict c)
{
    memset(c, 0, sizeof(float) * SIZE * SIZE);
    TILES(i) TILES(k) TILES(j)
        EACH(FIRST) EACH(SECOND) EACH(THIRD)
            c[i * SIZE + j] += a[i * SIZE + k] * b[k * SIZE + j];
}
