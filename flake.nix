{
  description = "MiniVess: raw 3D vessel volumes to tables, figures and a paper, the same bytes every time";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

    pyproject-nix = {
      url = "github:pyproject-nix/pyproject.nix";
      inputs.nixpkgs.follows = "nixpkgs";
    };

    uv2nix = {
      url = "github:pyproject-nix/uv2nix";
      inputs.pyproject-nix.follows = "pyproject-nix";
      inputs.nixpkgs.follows = "nixpkgs";
    };

    pyproject-build-systems = {
      url = "github:pyproject-nix/build-system-pkgs";
      inputs.pyproject-nix.follows = "pyproject-nix";
      inputs.uv2nix.follows = "uv2nix";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    {
      self,
      nixpkgs,
      pyproject-nix,
      uv2nix,
      pyproject-build-systems,
    }:
    let
      inherit (nixpkgs) lib;
      # Every wheel of the core dependencies in uv.lock exists for both.
      forAllSystems = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];

      # All of Python comes from uv.lock: the same wheels as without Nix.
      workspace = uv2nix.lib.workspace.loadWorkspace { workspaceRoot = ./.; };
      lockedPackages = workspace.mkPyprojectOverlay { sourcePreference = "wheel"; };
      # What the paper's cells run in is part of it; what only tests need is not.
      wanted = workspace.deps.default // {
        minivess = [ "paper" ];
      };

      # What uv.lock does not say: libraries that a wheel expects from outside, and the build system
      # of packages without a wheel. `tests/nix/wheels.py` holds the first list against the wheels.
      overrides =
        pkgs: final: prev:
        let
          driver = "${pkgs.addDriverRunpath.driverLink}/lib";
          cudaNames = lib.filter (lib.hasPrefix "nvidia-") (lib.attrNames prev);
          searchedIn = lib.concatMapStrings (wheel: "addAutoPatchelfSearchPath ${wheel}\n");
          # NVIDIA's libraries open their neighbours and the driver by name at run time.
          cuda = lib.genAttrs cudaNames (
            name:
            prev.${name}.overrideAttrs (old: {
              appendRunpaths = [
                "$ORIGIN"
                driver
              ];
            })
          );
          fromSource =
            name:
            prev.${name}.overrideAttrs (old: {
              nativeBuildInputs = old.nativeBuildInputs ++ final.resolveBuildSystem { setuptools = [ ]; };
            });
        in
        cuda
        // {
          torch = prev.torch.overrideAttrs (old: {
            appendRunpaths = [
              "$ORIGIN"
              driver
            ];
            preFixup = (old.preFixup or "") + searchedIn (map (name: final.${name}) cudaNames);
            # The driver's own library, and one that nothing of torch loads.
            autoPatchelfIgnoreMissingDeps = [
              "libcuda.so.1"
              "libquadmath.so.0"
            ];
          });
          nvidia-cusolver = cuda.nvidia-cusolver.overrideAttrs (old: {
            preFixup =
              (old.preFixup or "")
              + searchedIn [
                final.nvidia-cublas
                final.nvidia-cusparse
                final.nvidia-nvjitlink
              ];
          });
          # GPU storage and multi-node transports, which MiniVess does not use.
          nvidia-cufile = cuda.nvidia-cufile.overrideAttrs (old: {
            autoPatchelfIgnoreMissingDeps = [
              "libibverbs.so.1"
              "libmlx5.so.1"
              "librdmacm.so.1"
            ];
          });
          nvidia-nvshmem-cu13 = cuda.nvidia-nvshmem-cu13.overrideAttrs (old: {
            autoPatchelfIgnoreMissingDeps = [
              "libfabric.so.1"
              "libmlx5.so.1"
              "libmpi.so.40"
              "liboshmem.so.40"
              "libpmix.so.2"
              "libucp.so.0"
              "libucs.so.0"
            ];
          });
          # Its wheel is for any platform, yet holds the solver cbc.
          pulp = prev.pulp.overrideAttrs (old: {
            buildInputs = (old.buildInputs or [ ]) ++ [ (lib.getLib pkgs.stdenv.cc.cc) ];
          });
          antlr4-python3-runtime = fromSource "antlr4-python3-runtime";
          connection-pool = fromSource "connection-pool";
        };

      environments = forAllSystems (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
          pythonSet = (pkgs.callPackage pyproject-nix.build.packages { python = pkgs.python312; })
            .overrideScope
            (
              lib.composeManyExtensions [
                pyproject-build-systems.overlays.wheel
                lockedPackages
                (overrides pkgs)
              ]
            );
        in
        pythonSet.mkVirtualEnv "minivess-env" wanted
      );

      # Snakemake on the Snakefile of this flake, in the folder where it is called.
      demo =
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
          environment = environments.${system};
        in
        pkgs.writeShellApplication {
          name = "minivess-demo";
          runtimeInputs = [ pkgs.quarto ];
          text = ''
            export MINIVESS_GIT_COMMIT=''${MINIVESS_GIT_COMMIT:-${self.rev or (self.dirtyRev or "unknown")}}
            export QUARTO_PYTHON=${environment}/bin/python
            # The code beside its Snakefile and manuscript, as in a checkout.
            export PYTHONPATH=${self}
            exec ${environment}/bin/python -m snakemake --snakefile ${self}/Snakefile --cores all "$@"
          '';
        };
    in
    {
      packages = forAllSystems (system: {
        default = environments.${system};
        demo = demo system;
      });

      apps = forAllSystems (system: {
        default = {
          type = "app";
          program = "${demo system}/bin/minivess-demo";
        };
      });

      checks = forAllSystems (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
        in
        {
          import = pkgs.runCommand "minivess-import" { } ''
            export HOME=$TMPDIR
            ${environments.${system}}/bin/minivess version > $out
            ${environments.${system}}/bin/python -c '
            from minivess.environment import prepare_environment
            prepare_environment()
            import torch, monai, SimpleITK, mlflow
            ' >> $out
          '';
          plan = pkgs.runCommand "minivess-plan" { } ''
            export HOME=$TMPDIR
            cd $TMPDIR
            ${demo system}/bin/minivess-demo --dry-run > $out
          '';
        }
      );

      # For those who change the code: uv, on Nix's Python, in place of the environment above.
      devShells = forAllSystems (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
        in
        {
          default = pkgs.mkShell {
            packages = [
              pkgs.python312
              pkgs.uv
              pkgs.just
              pkgs.quarto
            ];
            env = {
              UV_PYTHON = pkgs.python312.interpreter;
              UV_PYTHON_DOWNLOADS = "never";
              # What PyPI's wheels expect from the system; the driver comes with NixOS.
              LD_LIBRARY_PATH =
                lib.makeLibraryPath [
                  pkgs.stdenv.cc.cc
                  pkgs.zlib
                ]
                + ":${pkgs.addDriverRunpath.driverLink}/lib";
            };
            shellHook = ''
              unset PYTHONPATH
            '';
          };
        }
      );
    };
}
