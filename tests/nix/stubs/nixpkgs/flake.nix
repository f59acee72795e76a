{
  description = "Stand-in for nixpkgs: only names that exist there, with values that cost nothing";

  outputs =
    { self }:
    let
      inherit (builtins)
        attrNames
        concatStringsSep

        filter
        foldl'
        functionArgs
        intersectAttrs
        listToAttrs
        map
        stringLength
        substring
        ;

      lib = {
        inherit attrNames filter;
        genAttrs = names: f: listToAttrs (map (name: { inherit name; value = f name; }) names);
        hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
        concatMapStrings = f: list: concatStringsSep "" (map f list);
        getLib = package: package.lib or package;
        makeLibraryPath = packages: concatStringsSep ":" (map (p: "${lib.getLib p}/lib") packages);
        composeManyExtensions =
          extensions: final: prev:
          foldl' (seen: extension: seen // extension final (prev // seen)) { } extensions;
      };

      packagesOf =
        system:
        let
          # The shell and the PATH are the host's: nothing of nixpkgs can be had here.
          run =
            name: attributes: script:
            derivation (
              attributes
              // {
                inherit name system;
                builder = "/bin/sh";
                args = [ "-euc" script ];
                PATH = "/usr/local/bin:/usr/bin:/bin";
              }
            );
          stub = name: run name { } ''echo ${name} > "$out"'';
          pkgs = {
            inherit lib system;
            callPackage = f: args: f (intersectAttrs (functionArgs f) (pkgs // { inherit pkgs; }) // args);
            runCommand = name: attributes: script: run name (attributes // { TMPDIR = "/tmp"; }) ''
              TMPDIR=$(mktemp -d)
              ${script}
            '';
            writeShellApplication =
              {
                name,
                runtimeInputs ? [ ],
                text,
              }:
              run name
                {
                  inherit runtimeInputs;
                  script = "#!/bin/bash\nset -o errexit -o nounset -o pipefail\n${text}";
                  passAsFile = [ "script" ];
                }
                ''
                  mkdir -p "$out/bin"
                  cp "$scriptPath" "$out/bin/${name}"
                  chmod +x "$out/bin/${name}"
                '';
            mkShell =
              {
                packages,
                env,
                shellHook,
              }:
              run "shell" (env // { inherit packages shellHook; }) ''echo > "$out"'';
            python312 = stub "python312" // {
              interpreter = "/python312/bin/python3.12";
              pythonVersion = "3.12";
            };
            uv = stub "uv";
            just = stub "just";
            quarto = stub "quarto";
            zlib = stub "zlib";
            stdenv.cc.cc = stub "gcc" // {
              lib = stub "gcc-lib";
            };
            addDriverRunpath.driverLink = "/run/opengl-driver";
          };
        in
        pkgs;
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] packagesOf;
    };
}
