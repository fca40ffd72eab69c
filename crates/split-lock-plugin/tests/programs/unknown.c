/* An emulator whose plugin interface is newer than any that the plugin knows, and has none of its functions. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int main(int count, char **arguments)
{
    struct {
        const char *target;
        int oldest_version, version;
        _Bool is_system;
    } info = {"x86_64", 90, 99, 0};
    if (count < 3) {
        puts("-plugin file");
        return 0;
    }
    char *path = strtok(arguments[2], ",");
    void *library = dlopen(path, RTLD_NOW);
    int (*install)(uint64_t, void *, int, char **) = library ? dlsym(library, "qemu_plugin_install") : 0;
    return install ? install(1, &info, 0, 0) : 98;
}
