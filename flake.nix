{
  description = "relatent: inference-time latent optimisation of frozen decoders";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" "aarch64-darwin" ];
      forAllSystems = nixpkgs.lib.genAttrs systems;
    in
    {
      devShells = forAllSystems (system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
          lib = pkgs.lib;
          # What PyPI's wheels of torch, h5py and onnxruntime expect to find on an ordinary system.
          wheelLibraries = with pkgs; [ stdenv.cc.cc.lib zlib ];
          # The driver's libraries: where NixOS puts them, and where other distributions do.
          driverFolders = [ "/run/opengl-driver/lib" "/usr/lib/wsl/lib" ];
        in
        {
          default = pkgs.mkShell {
            packages = with pkgs; [ python312 uv git gnumake ];

            # Not an attribute of the shell: pure evaluation cannot read the caller's environment, the hook can.
            shellHook = ''
              export BSDS500_PATH="''${BSDS500_PATH:-}"
              export UV_PYTHON=${pkgs.python312}/bin/python
              export UV_PYTHON_DOWNLOADS=never
            '' + lib.optionalString pkgs.stdenv.isLinux ''
              export LD_LIBRARY_PATH="${lib.makeLibraryPath wheelLibraries}:${lib.concatStringsSep ":" driverFolders}''${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
            '';
          };
        });
    };
}
