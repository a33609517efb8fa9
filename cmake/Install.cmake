# SPDX-License-Identifier: MIT
# Install rules: the program, the agent's objects where the program looks for them, the header, pages and documents.
include(GNUInstallDirs)

install(TARGETS silt RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
# The program looks beside itself and in ../lib/silt. By pattern, because the agent's room decides on its variants.
install(DIRECTORY ${CMAKE_BINARY_DIR}/bin/ DESTINATION lib/silt COMPONENT runtime
  FILES_MATCHING PATTERN "libsilt-agent*.so" PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
install(FILES ${CMAKE_SOURCE_DIR}/capture/silt.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT dev)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT doc
  FILES_MATCHING PATTERN "*.md")
install(FILES ${CMAKE_SOURCE_DIR}/README.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT doc)
