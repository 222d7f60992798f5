"""A Conan 2 recipe: `conan create examples/packaging/conan` from the top of this project. The package is the header;
test_package builds and runs a program with it."""
import os
import re

from conan import ConanFile
from conan.tools.files import copy, load


class Tpool(ConanFile):
    name = "tpool"
    description = "Thread pools and futures for C11 in one header"
    license = "MIT OR Unlicense"
    topics = ("thread-pool", "futures", "concurrency", "header-only", "c11")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    no_copy_source = True

    @property
    def _top(self):
        return os.path.join(self.recipe_folder, "..", "..", "..")

    def set_version(self):
        header = load(self, os.path.join(self._top, "tpool.h"))
        self.version = re.search(r"tpool\.h - v([0-9.]+) ", header).group(1)

    def export_sources(self):
        for name in ("tpool.h", "LICENSE"):
            copy(self, name, self._top, self.export_sources_folder)

    def package(self):
        copy(self, "tpool.h", self.source_folder, os.path.join(self.package_folder, "include"))
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))

    def package_id(self):
        self.info.clear()

    def package_info(self):
        self.cpp_info.bindirs = self.cpp_info.libdirs = []
        self.cpp_info.set_property("cmake_file_name", "tpool")
        self.cpp_info.set_property("cmake_target_name", "tpool::tpool")
        self.cpp_info.set_property("pkg_config_name", "tpool")
        if self.settings.os == "Windows":
            self.cpp_info.system_libs = ["synchronization"]
        else:
            self.cpp_info.system_libs = ["pthread"]
