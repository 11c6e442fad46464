;;; tabwise.el --- Tabwise beside any other Python server -*- lexical-binding: t -*-

;; With lsp-mode: ghost text where it has `lsp-inline-completion-mode', and an item in the
;; completion popup everywhere.
(with-eval-after-load 'lsp-mode
  (lsp-register-client
   (make-lsp-client
    :new-connection (lsp-stdio-connection '("tabwise" "lsp"))
    :activation-fn (lsp-activate-on "python")
    :add-on? t
    :server-id 'tabwise))
  (when (require 'lsp-inline-completion nil t)
    (add-hook 'lsp-managed-mode-hook #'lsp-inline-completion-mode)))

;; With eglot, which has no ghost text and one server a buffer: the popup only.
(with-eval-after-load 'eglot
  (add-to-list 'eglot-server-programs '(python-mode . ("tabwise" "lsp"))))
;;; tabwise.el ends here
