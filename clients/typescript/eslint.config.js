import eslint from "@eslint/js";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["build/", "src/generated/"] },
  eslint.configs.recommended,
  tseslint.configs.strict,
  {
    files: ["src/**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/restrict-template-expressions": "off", // error messages format arrays and numbers
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
    },
  },
  // The vectors are untyped JSON.
  { files: ["programs/*.ts"], rules: { "@typescript-eslint/no-explicit-any": "off" } },
);
