# An overlay port: vcpkg install tpool --overlay-ports=examples/packaging/vcpkg. A header alone, so that there is
# nothing to build, and no debug variant.
set(VCPKG_BUILD_TYPE release)

vcpkg_from_git(
  OUT_SOURCE_PATH SOURCE_PATH
  URL https://example.org/tpool.git # where the project lies for you, and a commit of it
  REF 0000000000000000000000000000000000000000
)
vcpkg_configure_meson(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS -Dtests=false -Dexamples=false -Dbench=false
)
vcpkg_install_meson()
vcpkg_cmake_config_fixup(CONFIG_PATH share/cmake/tpool)
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/share/man")
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
